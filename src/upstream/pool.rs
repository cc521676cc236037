//! Idle connections of one worker, a stack for each endpoint, and over TLS for each name that it was
//! asked for.
//!
//! The name often comes from a client. So names are told apart by themselves and not by a number that
//! is made of them: whoever found two names of one number would be sent over a connection that was
//! verified for the other.
//!
//! The last connection used is the first used again: it is the least likely to have been closed,
//! and the others age out. Those to an endpoint that is retired are closed.

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

/// The idle connections to one endpoint, in each stack the oldest first.
#[derive(Default)]
struct Kept {
    /// How many there are, whatever they are for.
    count: usize,
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
            kept.count -= 1;
            if top.until > now && top.connection.is_quiet() {
                return Some(top.connection);
            }
        }
        None
    }

    /// Keeps a connection whose response is complete, unless it has served enough or its endpoint is
    /// retired. Where there are enough, it takes the place of the one that has been idle for longest.
    pub fn put(&self, connection: Box<Connection>, keepalive: &Keepalive, now: Instant) {
        if keepalive.size == 0
            || connection.served >= keepalive.requests
            || keepalive.idle == Duration::ZERO
            || connection.endpoint.is_retired()
        {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(connection.endpoint.id).or_default();
        for _ in keepalive.size..=kept.count {
            kept.close_oldest();
        }
        kept.stack_of(&connection).push(Idle { connection, until: now + keepalive.idle });
        kept.count += 1;
    }

    /// Closes what has been idle for too long, was closed by the node or is to an endpoint that is
    /// retired, and frees the buffers of the rest.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, kept| {
            sweep(&mut kept.plain, now);
            kept.named.retain(|_, stack| {
                sweep(stack, now);
                !stack.is_empty()
            });
            kept.count = kept.plain.len() + kept.named.values().map(Vec::len).sum::<usize>();
            kept.count > 0
        });
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.idle.borrow().values().map(|kept| kept.count).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn sweep(stack: &mut Vec<Idle>, now: Instant) {
    stack.retain_mut(|Idle { connection, until }| {
        *until > now && !connection.endpoint.is_retired() && connection.is_quiet()
    });
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

    /// Closes the connection that would be the next to age out.
    fn close_oldest(&mut self) {
        let stacks = std::iter::once(&mut self.plain).chain(self.named.values_mut());
        let begun = stacks.filter_map(|stack| Some((stack.first()?.until, stack)));
        if let Some((_, stack)) = begun.min_by_key(|(until, _)| *until) {
            stack.remove(0);
            self.count -= 1;
            if stack.is_empty() {
                // Else whoever asks for ever other names would have more and more to be looked at.
                self.named.retain(|_, stack| !stack.is_empty());
            }
        }
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
    use std::sync::Arc;

    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Endpoint, Scheme};
    use super::*;
    use crate::resource::upstream::Node;
    use crate::tls::stream::Stream;

    const KEEPALIVE: Keepalive =
        Keepalive { size: 8, idle: Duration::from_secs(60), requests: u32::MAX };

    /// A pool, and a listener that connections lead to.
    struct Rig {
        pool: Pool,
        listener: TcpListener,
        /// The nodes' ends.
        nodes: Vec<TcpStream>,
        now: Instant,
    }

    impl Rig {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { pool: Pool::default(), listener, nodes: Vec::new(), now: Instant::now() }
        }

        fn endpoint(&self) -> Arc<Endpoint> {
            let addr = self.listener.local_addr().unwrap();
            let host = addr.ip().to_string();
            let node = Node { host, port: Some(addr.port()), weight: 1, priority: 0 };
            Arc::new(Endpoint::new(addr, &node, Scheme::Https))
        }

        /// Puts a connection that is told by `number`, a millisecond after the last one.
        async fn put(&mut self, number: u32, to: &Arc<Endpoint>, name: Option<&str>, size: usize) {
            let tcp = TcpStream::connect(to.addr).await.unwrap();
            self.nodes.push(self.listener.accept().await.unwrap().0);
            let name = name.map(|name| name.as_bytes().into());
            let mut connection = Connection::new(Stream::Tcp(tcp), to.clone(), name);
            connection.served = number;
            self.now += Duration::from_millis(1);
            self.pool.put(connection, &Keepalive { size, ..KEEPALIVE }, self.now);
        }

        fn take(&self, from: &Endpoint, name: Option<&str>) -> Option<u32> {
            let taken = self.pool.take(from.id, name.map(str::as_bytes), self.now);
            taken.map(|connection| connection.served)
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_for_its_own_endpoint_and_name_alone() {
        let mut rig = Rig::new().await;
        let (one, two) = (rig.endpoint(), rig.endpoint());
        let all = [
            (&one, Some("a")),
            (&one, Some("b")),
            (&one, None),
            (&two, Some("a")),
            (&one, Some("b")),
        ];
        for (number, (endpoint, name)) in (0..).zip(all) {
            rig.put(number, endpoint, name, 8).await;
        }
        assert_eq!(rig.take(&one, Some("c")), None);
        assert_eq!(rig.take(&one, Some("")), None);
        assert_eq!(rig.take(&two, None), None);
        assert_eq!((rig.take(&one, Some("a")), rig.take(&one, Some("a"))), (Some(0), None));
        assert_eq!((rig.take(&one, None), rig.take(&one, None)), (Some(2), None));
        rig.pool.sweep(rig.now);
        assert_eq!(rig.pool.len(), 3);
        let last_first = (rig.take(&one, Some("b")), rig.take(&one, Some("b")));
        assert_eq!(last_first, (Some(4), Some(1)));
        assert_eq!((rig.take(&two, Some("a")), rig.pool.len()), (Some(3), 0));
    }

    #[tokio::test]
    async fn keeps_as_many_for_an_endpoint_as_it_is_told_whatever_their_names() {
        let mut rig = Rig::new().await;
        let (one, two) = (rig.endpoint(), rig.endpoint());
        rig.put(0, &two, Some("a"), 3).await;
        for (number, name) in (1..).zip(["a", "b", "a", "c", "a"]) {
            rig.put(number, &one, Some(name), 3).await;
        }
        assert_eq!(rig.pool.len(), 4, "of the other endpoint there is one");
        assert_eq!(rig.take(&one, Some("b")), None, "it was among the oldest");
        assert_eq!((rig.take(&one, Some("a")), rig.take(&one, Some("a"))), (Some(5), Some(3)));
        // What is taken makes room.
        rig.put(6, &one, Some("b"), 3).await;
        rig.put(7, &one, Some("b"), 3).await;
        assert_eq!(rig.take(&one, Some("c")), Some(4));
        // A smaller size holds from the next one on.
        rig.put(8, &one, Some("d"), 1).await;
        assert_eq!((rig.take(&one, Some("b")), rig.take(&one, Some("d"))), (None, Some(8)));
        assert_eq!(rig.pool.len(), 1);
    }

    #[tokio::test]
    async fn closes_what_is_kept_for_an_endpoint_that_is_retired() {
        let mut rig = Rig::new().await;
        let (one, two) = (rig.endpoint(), rig.endpoint());
        rig.put(1, &one, Some("a"), 8).await;
        rig.put(2, &two, Some("a"), 8).await;
        one.retire();
        rig.put(3, &one, Some("a"), 8).await;
        assert_eq!(rig.pool.len(), 2, "not kept");
        rig.pool.sweep(rig.now);
        assert_eq!((rig.pool.len(), rig.take(&two, Some("a"))), (1, Some(2)));
    }
}
