//! (bao)
