//! Idle connections of one worker, a stack for each endpoint.
//!
//! The last connection used is the first used again: it is the least likely to have been closed,
//! and the others age out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use super::Keepalive;
use super::h1::Connection;

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>, BuildHasherDefault<ById>>>,
}

struct Idle {
    connection: Box<Connection>,
    until: Instant,
}

/// Endpoint ids are small and unique already; hashing them again would only cost.
#[derive(Default)]
struct ById(u64);

// === impl Pool ===

impl Pool {
    /// Takes a connection that is still good.
    pub fn take(&self, endpoint: u64, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&endpoint)?;
        while let Some(mut top) = stack.pop() {
            if top.until > now && top.connection.is_quiet() {
                return Some(top.connection);
            }
        }
        None
    }

    /// Keeps a connection whose response is complete, unless it has served enough.
    pub fn put(&self, connection: Box<Connection>, keepalive: &Keepalive, now: Instant) {
        if keepalive.size == 0
            || connection.served >= keepalive.requests
            || keepalive.idle == Duration::ZERO
        {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(connection.endpoint).or_default();
        if stack.len() >= keepalive.size {
            // The oldest is at the bottom.
            stack.remove(0);
        }
        stack.push(Idle { connection, until: now + keepalive.idle });
    }

    /// Closes what has been idle for too long or was closed by the node, and frees the buffers of
    /// the rest.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|idle| idle.until > now && idle.connection.is_quiet());
            stack.iter_mut().for_each(|idle| idle.connection.rest());
            !stack.is_empty()
        });
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl ById ===

impl Hasher for ById {
    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits and its tag from the high ones.
        self.0 | self.0.rotate_right(7)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}
