//! Transactions: any number of writes, up to a bound of expectations, in one of etcd's.
//!
//! etcd takes 128 operations a transaction unless told otherwise (`--max-txn-ops`), but counts
//! them level by level: what an operation that is itself a transaction holds is counted against
//! what its own level leaves. So many writes go down in bunches. Comparisons cannot: only those of
//! the top decide about everything.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/key.go`, `checkTxnRequest`.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use etcd_client::{Compare, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::connect::Connection;
use super::{Etcd, compare};
use crate::store::{Action, Expect, Life, Step, StoreError, Transacted};

/// What etcd takes on one level.
pub(super) const LEVEL: usize = 128;

/// Writes a bunch holds, and with that the expectations that the level above has room for.
const BUNCH: usize = 16;
const MOST_EXPECTATIONS: usize = LEVEL - BUNCH;

pub(super) async fn run(etcd: &Etcd, steps: Vec<Step>) -> Result<Transacted, StoreError> {
    let expecting = steps.iter().filter(|step| step.expect != Expect::Any);
    let expecting: Vec<(String, Expect)> =
        expecting.map(|step| (step.key.clone(), step.expect)).collect();
    let too_many = |most| StoreError::TooMany { backend: "etcd", steps: steps.len(), most };
    if expecting.len() > MOST_EXPECTATIONS {
        return Err(too_many(MOST_EXPECTATIONS));
    }
    if steps.len() > MOST_EXPECTATIONS * BUNCH {
        return Err(too_many(MOST_EXPECTATIONS * BUNCH));
    }
    let compares: Vec<Compare> =
        expecting.iter().filter_map(|(key, expect)| compare(&etcd.key(key), *expect)).collect();
    // Only revisions are looked at, and values may be long.
    let look = |(key, _): &(String, Expect)| {
        TxnOp::get(etcd.key(key), Some(GetOptions::new().with_keys_only()))
    };
    let looks: Vec<TxnOp> = expecting.iter().map(look).collect();
    // What lives equally long shares a lease.
    let mut options: HashMap<Life, PutOptions> = HashMap::new();
    let mut operations = Vec::with_capacity(steps.len());
    for step in steps {
        let key = etcd.key(&step.key);
        operations.push(match step.action {
            Action::Put { value, life } => {
                let options = match options.entry(life) {
                    Slot::Occupied(known) => known.get().clone(),
                    Slot::Vacant(slot) => slot.insert(etcd.put_options(life).await?).clone(),
                };
                TxnOp::put(key, value.to_vec(), Some(options))
            }
            Action::Delete => TxnOp::delete(key, Some(DeleteOptions::new())),
        });
    }
    if operations.len() > LEVEL {
        let bunches = operations.chunks(BUNCH);
        operations = bunches.map(|bunch| TxnOp::txn(Txn::new().and_then(bunch))).collect();
    }
    let txn = Txn::new().when(compares).and_then(operations).or_else(looks);
    let response = etcd.call(async move |etcd: Arc<Connection>| etcd.kv().txn(txn).await).await?;
    if response.succeeded() {
        let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        return Ok(Transacted::Done { revision });
    }
    let found = response.op_responses().into_iter().map(|answer| match answer {
        TxnOpResponse::Get(found) => found.kvs().first().map(etcd_client::KeyValue::mod_revision),
        _ => None,
    });
    let differs = |(expected, found): &(&(String, Expect), Option<i64>)| match (expected.1, found) {
        (Expect::Revision(wanted), Some(found)) => wanted != *found,
        (Expect::Absent, None) | (Expect::Any, _) => false,
        _ => true,
    };
    let keys = expecting.iter().zip(found).filter(differs).map(|((key, _), _)| key.clone());
    Ok(Transacted::Conflict { keys: keys.collect() })
}
