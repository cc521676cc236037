//! Tests of both logs, on real files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::{Duration, Instant};

use super::access::AccessLog;
use super::*;

#[test]
fn reads_the_level_words_of_nginx() {
    for (word, level) in [
        ("debug", Level::Debug),
        ("notice", Level::Info),
        ("warn", Level::Warn),
        ("crit", Level::Error),
        ("emerg", Level::Error),
    ] {
        assert_eq!(word.parse::<Level>().unwrap(), level, "{word}");
    }
    let error = "loud".parse::<Level>().unwrap_err().to_string();
    assert!(error.starts_with("error_log_level: expected one of debug, info"), "{error}");
    assert!(error.ends_with("got loud"), "{error}");
}

#[test]
fn writes_json_lines_to_a_file_and_follows_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/error.log");
    let log = ErrorLog(Some(Arc::new(LogFile::open(&path).unwrap())));
    let subscriber = tracing_subscriber::registry()
        .with(Level::Info.filter())
        .with(tracing_subscriber::fmt::layer().with_writer(log.clone()).json().flatten_event(true));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "sluice::store", revision = 7, "connected");
        tracing::debug!(target: "sluice::store", "not at this level");
        tracing::info!(target: "h2", "a library's business");
        fs::rename(&path, folder.path().join("old")).unwrap();
        log.reopen().unwrap();
        tracing::warn!(target: "sluice::store", "second");
    });
    let old = fs::read_to_string(folder.path().join("old")).unwrap();
    assert_eq!(old.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&old).unwrap();
    assert_eq!((&line["level"], &line["revision"]), (&"INFO".into(), &7.into()));
    assert_eq!((&line["message"], &line["target"]), (&"connected".into(), &"sluice::store".into()));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "UTC");
    assert!(fs::read_to_string(&path).unwrap().contains("second"));
}

#[test]
fn a_log_that_cannot_be_opened_names_its_path() {
    let error = AccessLog::open("/proc/nowhere/access.log", 0).err().unwrap().to_string();
    assert!(error.starts_with("log file /proc/nowhere/access.log: "), "{error}");
}

#[test]
fn lines_of_several_workers_never_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path, 4096).unwrap();
    let threads: Vec<_> = ["a", "b", "c"]
        .map(|letter| {
            let log = log.clone();
            std::thread::spawn(move || {
                let writer = log.worker();
                for n in 0..2000 {
                    writer.line(|buffer| buffer.push_str(&letter.repeat(1 + n % 150)));
                    if n % 500 == 0 {
                        writer.flush();
                        log.sync();
                    }
                }
            })
        })
        .into();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    log.sync();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 6000);
    for line in text.lines() {
        let first = line.as_bytes()[0];
        assert!(line.bytes().all(|byte| byte == first), "{line}");
    }
    assert_eq!(log.lost_lines(), 0);
}

#[test]
fn lines_wait_for_a_full_buffer_or_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let read = || fs::read_to_string(&path).unwrap();
    let log = AccessLog::open(&path, 10).unwrap();
    let writer = log.worker();
    writer.line(|buffer| buffer.push_str("one"));
    log.sync();
    assert_eq!(read(), "");
    writer.flush();
    log.sync();
    assert_eq!(read(), "one\n");
    writer.line(|buffer| buffer.push_str("0123456789"));
    log.sync();
    assert_eq!(read(), "one\n0123456789\n");
    writer.line(|buffer| buffer.push_str("last"));
    drop(writer);
    drop(log);
    assert!(read().ends_with("last\n"));
}

#[test]
fn reopens_after_a_rotation_and_after_a_deletion() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path, 0).unwrap();
    let writer = log.worker();
    writer.line(|buffer| buffer.push_str("before"));
    log.sync();
    fs::rename(&path, folder.path().join("old")).unwrap();
    writer.line(|buffer| buffer.push_str("between"));
    log.reopen();
    writer.line(|buffer| buffer.push_str("after"));
    log.sync();
    assert_eq!(fs::read_to_string(folder.path().join("old")).unwrap(), "before\nbetween\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");

    fs::remove_file(&path).unwrap();
    let start = Instant::now();
    while !fs::read_to_string(&path).is_ok_and(|text| text.contains("found")) {
        assert!(start.elapsed() < Duration::from_secs(20), "the deletion was not noticed");
        writer.line(|buffer| buffer.push_str("found"));
        log.sync();
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn a_full_disk_costs_lines_and_no_time() {
    let log = AccessLog::open("/dev/full", 0).unwrap();
    let writer = log.worker();
    // More than may wait.
    for _ in 0..5000 {
        writer.line(|buffer| buffer.push_str("lost"));
    }
    let start = Instant::now();
    while log.lost_lines() < 5000 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} lost", log.lost_lines());
        log.sync();
    }
    assert_eq!(log.lost_lines(), 5000);
}

#[test]
fn a_reader_that_stalls_costs_lines_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that opening the writing end does not wait; nobody ever reads.
    let _reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let log = AccessLog::open(&path, 1024).unwrap();
    let line = "x".repeat(1023);
    let (done, is_done) = std::sync::mpsc::channel();
    let writing = log.clone();
    std::thread::spawn(move || {
        let writer = writing.worker();
        for _ in 0..3000 {
            writer.line(|buffer| buffer.push_str(&line));
        }
        done.send(())
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("the worker waits for the reader");
    assert!(log.lost_lines() >= 3000 - 64 - 1024 - 1, "{} lost", log.lost_lines());
}
