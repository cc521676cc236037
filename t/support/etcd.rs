//! (etcd)
