//! Connections that nobody has said anything on for some seconds: a socket and what is known of its
//! client, without a task, its state, or a place in the worker's reactor.
//!
//! Most connections of a busy gateway are idle ones. With all that a request needs, one takes about
//! a kilobyte; here, it takes a third of that. Their sockets are watched by an epoll instance of
//! their own, which is one socket more to the reactor. When a client says something, its connection
//! gets a task again and reads it; a connection that is asked every second never comes here.
//!
//! Source: `epoll(7)`, on an epoll instance that another one watches.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use super::Worker;
use super::connection::{self, Downstream};

/// How many wake at a time; what else the worker has to do comes between.
const AT_ONCE: usize = 64;

/// The dormant connections of one worker.
#[derive(Default)]
pub(super) struct Dormant {
    /// Where their sockets are watched, by their keys in `sleepers`; made for the first of them.
    watched: OnceCell<Registry>,
    sleepers: RefCell<Slab<Sleeper>>,
}

struct Sleeper {
    socket: std::net::TcpStream,
    downstream: Rc<Downstream>,
}

// === impl Dormant ===

impl Dormant {
    /// Keeps a connection between two requests, of which nothing is read and nothing unwritten.
    ///
    /// # Errors
    /// The socket cannot be watched. The connection is closed then.
    pub(super) fn keep(
        worker: &Rc<Worker>,
        stream: TcpStream,
        downstream: Rc<Downstream>,
    ) -> io::Result<()> {
        let dormant = &worker.dormant;
        let watched = match dormant.watched.get() {
            Some(watched) => watched,
            None => {
                let watched = watch(worker)?;
                dormant.watched.get_or_init(|| watched)
            }
        };
        let socket = stream.into_std()?;
        let mut sleepers = dormant.sleepers.borrow_mut();
        let place = sleepers.vacant_entry();
        // What has come meanwhile is told at once.
        let fd = socket.as_raw_fd();
        watched.register(&mut SourceFd(&fd), Token(place.key()), Interest::READABLE)?;
        downstream.slot.leaves();
        place.insert(Sleeper { socket, downstream });
        Ok(())
    }

    /// Closes those that have been idle for longer than `limit`.
    pub(super) fn expire(&self, now: Instant, limit: Duration) {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.retain(|_, sleeper| sleeper.downstream.slot.idle_for(now) <= limit);
        if sleepers.len() < sleepers.capacity() / 4 {
            sleepers.shrink_to_fit();
        }
    }

    /// Closes all of them: the node stops.
    pub(super) fn close(&self) {
        self.sleepers.take();
    }

    /// Gives a connection a task again.
    fn wake(&self, worker: &Rc<Worker>, key: usize) {
        let Some(Sleeper { socket, downstream }) = self.sleepers.borrow_mut().try_remove(key)
        else {
            return;
        };
        let fd = socket.as_raw_fd();
        let unwatched = self.watched.get().map(|watched| watched.deregister(&mut SourceFd(&fd)));
        match unwatched.unwrap_or(Ok(())).and_then(|()| TcpStream::from_std(socket)) {
            Ok(stream) => connection::resume(worker.clone(), stream, downstream),
            Err(error) => tracing::debug!(%error, "a dormant connection could not be resumed"),
        }
    }
}

/// Begins to watch over the sockets of dormant connections, in a task of its own.
fn watch(worker: &Rc<Worker>) -> io::Result<Registry> {
    let poll = Poll::new()?;
    let watched = poll.registry().try_clone()?;
    let readable = tokio::io::Interest::READABLE;
    // SAFETY: the descriptor is `poll`'s own; it is the same one, and open, for as long as it lives.
    #[allow(unsafe_code)]
    let mut poll = unsafe { AsyncFd::register_with_interest(poll, readable) }?;
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        let mut events = Events::with_capacity(AT_ONCE);
        loop {
            let Ok(mut ready) = poll.readable_mut().await else {
                return;
            };
            if let Err(error) = ready.get_inner_mut().poll(&mut events, Some(Duration::ZERO)) {
                tracing::debug!(%error, "dormant connections could not be looked after");
            }
            if events.is_empty() {
                ready.clear_ready();
                continue;
            }
            for event in &events {
                worker.dormant.wake(&worker, event.token().0);
            }
            tokio::task::yield_now().await;
        }
    });
    Ok(watched)
}
