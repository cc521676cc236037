//! The command line: verbs and their words.

mod check;
mod signal;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::runtime;

/// The config that `init` writes: the one that is shipped.
const SHIPPED: &str = include_str!("../conf/config.yaml");

/// An API gateway with its config in etcd and its certificates in Vault.
#[derive(Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The config file.
    #[arg(short, long, global = true, value_name = "FILE", default_value = "conf/config.yaml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a node in the foreground until it is told to stop.
    Start,
    /// Ends the running node; what is in flight has two seconds.
    Stop,
    /// Ends the running node when everything in flight has ended.
    Quit,
    /// Lets the running node open its logs again. Resources need no reload.
    Reload,
    /// Checks the config file, and the resources where they come from a file.
    Test,
    /// Writes the config file and makes the data folder, where they are not there yet.
    Init,
    /// Prints the version.
    Version,
}

/// Does what the command line says. Errors are told on stderr; 1 is a failure, 2 a wrong usage.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.verb {
        Verb::Start => start(&arguments.config),
        Verb::Stop => signal::send(&arguments.config, signal::Order::Stop),
        Verb::Quit => signal::send(&arguments.config, signal::Order::Quit),
        Verb::Reload => signal::send(&arguments.config, signal::Order::Reload),
        Verb::Test => check::check(&arguments.config),
        Verb::Init => init(&arguments.config),
        Verb::Version => say(&format!("sluice {}", runtime::VERSION)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be reading; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "sluice: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: &std::path::Path) -> anyhow::Result<()> {
    let loaded = Config::load(config).map_err(anyhow::Error::msg)?;
    runtime::start(loaded)
}

fn init(config: &std::path::Path) -> anyhow::Result<()> {
    if config.exists() {
        say(&format!("{}: is there already, left as it is", config.display()))?;
    } else {
        if let Some(folder) = config.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::write(config, SHIPPED).with_context(|| config.display().to_string())?;
        say(&format!("{}: written", config.display()))?;
    }
    let loaded = Config::load(config).map_err(anyhow::Error::msg)?;
    let data_dir = &loaded.config.sluice.data_dir;
    std::fs::create_dir_all(data_dir).with_context(|| data_dir.display().to_string())?;
    say(&format!("{}: the data folder is there", data_dir.display()))
}

/// Writes a line to stdout.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}
