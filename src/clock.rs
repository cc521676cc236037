//! The time: as of this turn of a worker's loop, and by the calendar.
//!
//! Between two waits of a request pass some microseconds, in which its start, its tries, its
//! deadlines and its log ask for the time a dozen times. They get the time at which the task was
//! woken; only threads that run no [`timed`] task look at the clock each time.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    static TURN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time; on a worker, as of when the task that asks was woken.
pub fn now() -> Instant {
    TURN.get().unwrap_or_else(Instant::now)
}

/// Seconds since 1970, by the wall clock; looked at each time.
pub fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}

/// How long it is until `moment` when the calendar says `now`, both in seconds since 1970; nothing
/// where that is over.
pub fn until(moment: i64, now: i64) -> Duration {
    Duration::from_secs(u64::try_from(moment - now).unwrap_or_default())
}

/// A task for which each poll is a turn.
pub fn timed<F: Future>(task: F) -> impl Future<Output = F::Output> {
    Timed { task }
}

struct Timed<F> {
    task: F,
}

// === impl Timed ===

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        TURN.set(Some(Instant::now()));
        // SAFETY: `task` is pinned as a part of what is pinned, and never moved out.
        #[allow(unsafe_code)]
        let task = unsafe { self.map_unchecked_mut(|timed| &mut timed.task) };
        let polled = task.poll(cx);
        TURN.set(None);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_stands_still_until_the_task_waits() {
        timed(async {
            let before = now();
            while Instant::now() == before {}
            assert_eq!(now(), before);
            tokio::task::yield_now().await;
            assert!(now() > before);
        })
        .await;
        let after = now();
        while now() == after {}
    }
}
