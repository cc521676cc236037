//! Processes of the bench: seated on a core, weighed through /proc, ended with their guard.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Which core a process runs on.
#[derive(Debug, Clone, Copy)]
pub enum Seat {
    /// The last one, for nobody but the proxy under load.
    Proxy,
    /// All others, for origin and load.
    Rest,
}

/// How long a process has to end when it is no longer needed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A process that is told to end when this is dropped, so that it can write what it counted (see
/// ci/pgo.sh), and killed when it does not.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts `command`; what it writes goes to `log`.
    pub fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        let log = log.to_owned();
        Ok(Self { name, child, log })
    }

    /// An error with the end of the log if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{} ended ({status}); its log ends with:\n{end}", self.name)
    }

    /// CPU time of all threads so far, its children's included.
    pub fn cpu(&self) -> Result<Duration> {
        self.scheduled("", |ran, _| ran)
    }

    /// How long threads whose names begin with `threads` could have run so far, had another not
    /// had the core.
    pub fn waited(&self, threads: &str) -> Result<Duration> {
        self.scheduled(threads, |_, waited| waited)
    }

    /// One of the two times that the scheduler keeps of a thread, over those of that name.
    ///
    /// Source: Linux `Documentation/scheduler/sched-stats.rst`, `/proc/<pid>/schedstat`.
    fn scheduled(&self, threads: &str, which: fn(u64, u64) -> u64) -> Result<Duration> {
        let mut nanoseconds = 0;
        for pid in self.family() {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?.path();
                // A thread may end between listing and reading.
                let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
                if read("comm").starts_with(threads) {
                    let stat = read("schedstat");
                    let mut times = stat.split(' ').map_while(|time| time.parse().ok());
                    let (ran, waited) = (times.next().unwrap_or(0), times.next().unwrap_or(0));
                    nanoseconds += which(ran, waited);
                }
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory in bytes, pages shared with other processes counted in proportion.
    pub fn memory(&self) -> Result<u64> {
        let mut bytes = 0;
        for pid in self.family() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            bytes += kilobytes(&rollup, "Pss:").context("no Pss in smaps_rollup")? * 1024;
        }
        Ok(bytes)
    }

    /// Asks the process to end and returns what it has written.
    pub async fn end(mut self) -> Result<String> {
        self.terminate()?;
        for _ in 0..600 {
            if self.child.try_wait()?.is_some() {
                return Ok(fs::read_to_string(&self.log)?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} did not end within 30 s of SIGTERM", self.name)
    }

    fn terminate(&self) -> std::io::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().map(drop)
    }

    /// The process and everything below it.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            next += 1;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children"));
                let children = children.unwrap_or_default();
                family.extend(children.split(' ').filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        family
    }
}

impl Drop for Process {
    #[allow(clippy::disallowed_methods, reason = "a drop cannot wait in any other way")]
    fn drop(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        let mut runs = matches!(self.child.try_wait(), Ok(None)) && self.terminate().is_ok();
        while runs && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            runs = matches!(self.child.try_wait(), Ok(None));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `program` to be run on `seat`. Where there is one core only, everything shares it.
pub fn command(program: &Path, seat: Seat) -> Command {
    match cores(seat) {
        Some(cores) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &cores]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Seats the bench itself with the rest, and lets it and what it starts open many sockets.
pub fn take_seat() -> Result<()> {
    let pid = std::process::id().to_string();
    // An empty limit stays as it is; the soft one may rise to the hard one.
    let hard = Command::new("prlimit")
        .args(["--pid", &pid, "--nofile", "--output", "HARD", "--noheadings"])
        .output()
        .context("prlimit (util-linux) did not start")?;
    let hard = String::from_utf8_lossy(&hard.stdout).trim().to_owned();
    Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:")]).status()?;
    if let Some(cores) = cores(Seat::Rest) {
        Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &cores, &pid])
            .stdout(Stdio::null())
            .status()
            .context("taskset (util-linux) did not start")?;
    }
    Ok(())
}

fn cores(seat: Seat) -> Option<String> {
    // Not `available_parallelism`: that shrinks once the bench itself has its seat.
    let present = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let last: usize = present.trim().rsplit(['-', ',']).next()?.parse().ok()?;
    if last == 0 {
        return None;
    }
    Some(match seat {
        Seat::Proxy => last.to_string(),
        Seat::Rest => format!("0-{}", last - 1),
    })
}

/// The path of a program: of this project's tools, else of the machine.
pub fn find(name: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers where only root's PATH looks.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    [tools].into_iter().chain(places).map(|place| place.join(name)).find(|file| file.is_file())
}

/// A loopback port that nobody listens on, below those that the system gives to clients.
pub fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 1000) as u16 * 10;
    for _ in 0..10_000 {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from 10000 to 19999")
}

/// The figure of `key` in a file of /proc that counts in kB.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}
