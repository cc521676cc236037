//! The time of day, written once a second and worker.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock;

/// Appends `time_local`.
pub(super) fn this_second_local(out: &mut String) -> bool {
    this_second(&LOCAL, time_local, out)
}

/// Appends `time_iso8601`.
pub(super) fn this_second_iso(out: &mut String) -> bool {
    this_second(&ISO, time_iso8601, out)
}

/// When a second is over, and how it is written.
type Second = RefCell<(Option<Instant>, String)>;

// Written once a second and worker, not once a line.
thread_local! {
    static LOCAL: Second = RefCell::default();
    static ISO: Second = RefCell::default();
}

fn this_second(
    cache: &'static std::thread::LocalKey<Second>,
    write: fn(SystemTime) -> String,
    out: &mut String,
) -> bool {
    let turn = clock::now();
    cache.with_borrow_mut(|(until, text)| {
        if until.is_none_or(|until| turn >= until) {
            let now = SystemTime::now();
            let into = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            *until =
                Some(Instant::now() + Duration::from_secs(1) - Duration::from_nanos(into.into()));
            *text = write(now);
        }
        out.push_str(text);
    });
    true
}

/// `24/Nov/2026:02:00:00 +0000`: the local time of a gateway is UTC.
fn time_local(at: SystemTime) -> String {
    // `Tue, 24 Nov 2026 02:00:00 GMT` has every part that is needed.
    let date = httpdate::fmt_http_date(at);
    let mut parts = date.split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    format!("{day}/{month}/{year}:{time} +0000")
}

/// `2026-11-24T02:00:00+00:00`.
fn time_iso8601(at: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = httpdate::fmt_http_date(at);
    let mut parts = date.split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    let month = MONTHS.iter().position(|name| *name == month).unwrap_or(0) + 1;
    format!("{year}-{month:02}-{day}T{time}+00:00")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_times_as_nginx_does() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_485_600);
        assert_eq!(time_local(at), "24/Nov/2026:02:00:00 +0000");
        assert_eq!(time_iso8601(at), "2026-11-24T02:00:00+00:00");
    }
}
