//! Idle connections of one worker, a stack for each endpoint, and over TLS for each name that it was
//! asked for.
//!
//! The name often comes from a client. So names are told apart by themselves and not by a number that
//! is made of them: whoever found two names of one number would be sent over a connection that was
//! verified for the other.
//!
//! The last connection used is the first used again: it is the least likely to have been closed,
//! and the others age out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Keepalive;
use super::h1::Connection;

/// The idle connections of one worker.
#[derive(Default)]
pub struct Pool {
    idle: RefCell<HashMap<u64, Kept, BuildHasherDefault<ById>>>,
}

/// The idle connections to one endpoint.
#[derive(Default)]
struct Kept {
    plain: Vec<Idle>,
    /// Those over TLS, by the name that they are for.
    named: HashMap<Rc<[u8]>, Vec<Idle>>,
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
    /// Takes a connection to `endpoint` that is still good: over TLS for `name`, without one a plain
    /// one.
    pub fn take(
        &self,
        endpoint: u64,
        name: Option<&[u8]>,
        now: Instant,
    ) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        let stack = match name {
            None => &mut kept.plain,
            Some(name) => kept.named.get_mut(name)?,
        };
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
        let stack = idle.entry(connection.endpoint).or_default().stack_of(&connection);
        if stack.len() >= keepalive.size {
            // The oldest is at the bottom.
            stack.remove(0);
        }
        stack.push(Idle { connection, until: now + keepalive.idle });
    }

    /// Closes what has been idle for too long or was closed by the node, and frees the buffers of
    /// the rest.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, kept| {
            sweep(&mut kept.plain, now);
            kept.named.retain(|_, stack| {
                sweep(stack, now);
                !stack.is_empty()
            });
            !kept.plain.is_empty() || !kept.named.is_empty()
        });
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(Kept::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn sweep(stack: &mut Vec<Idle>, now: Instant) {
    stack.retain_mut(|idle| idle.until > now && idle.connection.is_quiet());
    stack.iter_mut().for_each(|idle| idle.connection.rest());
}

// === impl Kept ===

impl Kept {
    /// Where `connection` belongs.
    fn stack_of(&mut self, connection: &Connection) -> &mut Vec<Idle> {
        match &connection.name {
            None => &mut self.plain,
            Some(name) => self.named.entry(name.clone()).or_default(),
        }
    }

    fn len(&self) -> usize {
        self.plain.len() + self.named.values().map(Vec::len).sum::<usize>()
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::tls::stream::Stream;

    const KEEPALIVE: Keepalive =
        Keepalive { size: 2, idle: Duration::from_secs(60), requests: u32::MAX };

    #[tokio::test]
    async fn a_connection_is_used_again_for_its_own_endpoint_and_name_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (pool, now) = (Pool::default(), Instant::now());
        let mut nodes = Vec::new();
        let all = [(1, Some("a")), (1, Some("b")), (1, None), (2, Some("a")), (1, Some("b"))];
        for (number, (endpoint, name)) in (0..).zip(all) {
            let tcp = TcpStream::connect(addr).await.unwrap();
            nodes.push(listener.accept().await.unwrap());
            let name = name.map(|name| name.as_bytes().into());
            let mut connection = Connection::new(Stream::Tcp(tcp), endpoint, name);
            connection.served = number;
            pool.put(connection, &KEEPALIVE, now);
        }
        let take = |endpoint, name: Option<&str>| {
            let taken = pool.take(endpoint, name.map(str::as_bytes), now);
            taken.map(|connection| connection.served)
        };
        assert_eq!(take(1, Some("c")), None);
        assert_eq!(take(1, Some("")), None);
        assert_eq!(take(2, None), None);
        assert_eq!((take(1, Some("a")), take(1, Some("a"))), (Some(0), None));
        assert_eq!((take(1, None), take(1, None)), (Some(2), None));
        pool.sweep(now);
        assert_eq!(pool.len(), 3);
        assert_eq!((take(1, Some("b")), take(1, Some("b"))), (Some(4), Some(1)), "the last first");
        assert_eq!((take(2, Some("a")), pool.len()), (Some(3), 0));
    }
}
