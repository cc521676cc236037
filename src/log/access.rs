//! The access log: one line an exchange, gathered by worker, written by a thread of its own.
//!
//! A worker appends lines to a buffer that only it touches. A full buffer goes to the writing
//! thread as it is; whatever the disk or the reader of a pipe does, the worker goes on. What
//! cannot be written is counted ([`AccessLog::lost_lines`]) and reported at most once a minute.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use super::LogError;
use super::file::LogFile;

/// So many bytes of lines may wait for the writing thread, in at most so many buffers.
const WAITING_BYTES: usize = 8 * 1024 * 1024;
const WAITING_BUFFERS: usize = 1024;

/// Room in a buffer beyond its size, so that the line that fills it seldom moves it.
const LAST_LINE_BYTES: usize = 1024;

/// Between two reports of trouble, and how long the end of a log is waited for.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks whether there is room.
const SYNC_PAUSE: Duration = Duration::from_millis(5);

/// An access log: one file, any number of workers. Dropping it writes what has been flushed.
pub struct AccessLog {
    buffer_bytes: usize,
    shared: Shared,
}

/// The writing end of one worker. Dropping it flushes.
pub struct Writer {
    buffer: RefCell<String>,
    buffer_bytes: usize,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    to_thread: SyncSender<Message>,
    lost_lines: Arc<AtomicU64>,
}

enum Message {
    Lines(String),
    Reopen,
    /// Answered when all before it is written.
    Barrier(mpsc::Sender<()>),
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens `path` for appending and starts the writing thread. A worker's lines are handed on
    /// when there are `buffer_bytes` of them (0: each at once) and on [`Writer::flush`].
    ///
    /// `/dev/stdout` and `/dev/stderr` are the process's own streams.
    pub fn open(path: impl AsRef<Path>, buffer_bytes: usize) -> Result<Arc<Self>, LogError> {
        let file = LogFile::open(path.as_ref())?;
        let waiting = (WAITING_BYTES / buffer_bytes.max(1)).clamp(1, WAITING_BUFFERS);
        let (to_thread, messages) = mpsc::sync_channel(waiting);
        let lost_lines = Arc::new(AtomicU64::new(0));
        let sink = Sink::new(file, lost_lines.clone());
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || sink.run(&messages))
            .map_err(|source| LogError::Open { path: path.as_ref().into(), source })?;
        Ok(Arc::new(Self { buffer_bytes, shared: Shared { to_thread, lost_lines } }))
    }

    /// The writing end for one worker.
    pub fn worker(&self) -> Writer {
        Writer {
            buffer: RefCell::new(String::with_capacity(self.buffer_bytes + LAST_LINE_BYTES)),
            buffer_bytes: self.buffer_bytes,
            shared: self.shared.clone(),
        }
    }

    /// Opens the file again for what comes after this call, so that it can be rotated. On an
    /// error, which is logged, lines go on to the old one.
    pub fn reopen(&self) {
        // Waits only when the thread is far behind; the caller is a signal's, not a request's.
        let _ = self.shared.to_thread.send(Message::Reopen);
    }

    /// Waits until all lines that workers have flushed are written, at most two seconds.
    pub fn sync(&self) {
        let end = Instant::now() + CLOSE_TIMEOUT;
        let (done, wait) = mpsc::channel();
        let mut barrier = Message::Barrier(done);
        // The last lines of a burst wait where there is no room for more.
        while let Err(TrySendError::Full(refused)) = self.shared.to_thread.try_send(barrier) {
            if Instant::now() > end {
                return;
            }
            barrier = refused;
            std::thread::park_timeout(SYNC_PAUSE);
        }
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }

    /// Lines that could not be written so far.
    pub fn lost_lines(&self) -> u64 {
        self.shared.lost_lines.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.sync();
    }
}

// === impl Writer ===

impl Writer {
    /// Appends one line; `write` gives its text, without the newline.
    ///
    /// `write` must leave what stands in the buffer alone. It must not call this writer again.
    pub fn line(&self, write: impl FnOnce(&mut String)) {
        let mut buffer = self.buffer.borrow_mut();
        write(&mut buffer);
        buffer.push('\n');
        if buffer.len() >= self.buffer_bytes {
            self.hand_on(&mut buffer);
        }
    }

    /// Hands the lines gathered so far to the writing thread; to be called about once a second.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.hand_on(&mut buffer);
        }
    }

    fn hand_on(&self, buffer: &mut String) {
        let empty = String::with_capacity(self.buffer_bytes + LAST_LINE_BYTES);
        let lines = std::mem::replace(buffer, empty);
        // Full: the disk is slower than the traffic. Losing lines is better than losing time.
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
            self.shared.to_thread.try_send(Message::Lines(lines))
            && let Message::Lines(lines) = message
        {
            self.shared.lost_lines.fetch_add(count(lines.as_bytes()), Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The writing thread's part.
struct Sink {
    file: LogFile,
    lost_lines: Arc<AtomicU64>,
    /// Whether the last write ended within a line.
    is_torn: bool,
    looked: Instant,
    reported: Option<Instant>,
    reported_lines: u64,
    /// What went wrong last, since the last report.
    trouble: Option<io::Error>,
}

// === impl Sink ===

impl Sink {
    fn new(file: LogFile, lost_lines: Arc<AtomicU64>) -> Self {
        Self {
            file,
            lost_lines,
            is_torn: false,
            looked: Instant::now(),
            reported: None,
            reported_lines: 0,
            trouble: None,
        }
    }

    /// Writes until the log and all its writers are gone.
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(LOOK_INTERVAL) {
                Ok(Message::Lines(lines)) => {
                    self.reopen_if_lost();
                    self.write(lines.as_bytes());
                }
                Ok(Message::Reopen) => self.reopen(),
                Ok(Message::Barrier(done)) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.report();
        }
    }

    fn write(&mut self, mut lines: &[u8]) {
        let file = self.file.current();
        let mut file = &*file;
        if self.is_torn && file.write(b"\n").is_ok_and(|n| n == 1) {
            self.is_torn = false;
        }
        while !lines.is_empty() {
            match file.write(lines) {
                Ok(0) => return self.lose(lines, io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = lines[written - 1] != b'\n';
                    lines = &lines[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(lines, error),
            }
        }
    }

    fn lose(&mut self, lines: &[u8], error: io::Error) {
        self.lost_lines.fetch_add(count(lines), Ordering::Relaxed);
        self.trouble = Some(error);
    }

    fn reopen(&mut self) {
        match self.file.reopen() {
            Ok(()) => self.is_torn = false,
            Err(error) => self.trouble = Some(io::Error::other(error)),
        }
    }

    /// A deleted file would take all further lines with it, unseen.
    fn reopen_if_lost(&mut self) {
        if self.looked.elapsed() >= LOOK_INTERVAL {
            self.looked = Instant::now();
            if self.file.is_lost() {
                tracing::warn!(path = %self.file.path().display(), "access log was deleted; opening it again");
                self.reopen();
            }
        }
    }

    fn report(&mut self) {
        let lost = self.lost_lines.load(Ordering::Relaxed);
        if lost == self.reported_lines && self.trouble.is_none() {
            return;
        }
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let reason = match self.trouble.take() {
            Some(error) => error.to_string(),
            None => "it is slower than the traffic".into(),
        };
        tracing::error!(
            path = %self.file.path().display(),
            lost_lines = lost - self.reported_lines,
            reason,
            "access log cannot be written"
        );
        self.reported = Some(Instant::now());
        self.reported_lines = lost;
    }
}

/// Lines in `lines`, each ended by a newline.
fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
