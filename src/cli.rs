//! The command line: verbs and their words.

mod adc;
mod apply;
mod check;
mod explain;
mod files;
mod get;
mod remote;
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
    /// Shows resources of a running gateway.
    Get {
        /// routes, upstreams, consumers, …
        kind: String,
        /// One of them; all when left out.
        id: Option<String>,
        /// How they are printed.
        #[arg(short, long, value_enum, default_value_t = Form::Table)]
        output: Form,
        #[command(flatten)]
        server: remote::Server,
    },
    /// Creates and changes resources so that they are as in files.
    Apply {
        #[command(flatten)]
        wanted: apply::Wanted,
        /// Returns only when every node of the cluster serves it.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        server: remote::Server,
    },
    /// Tells what apply would do; 0 if nothing, 1 if something, 2 if it cannot be told.
    Diff {
        #[command(flatten)]
        wanted: apply::Wanted,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Form::Table)]
        output: Form,
        #[command(flatten)]
        server: remote::Server,
    },
    /// Prints all resources as a file for apply, or for standalone mode.
    Dump {
        /// yaml or json.
        #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
        output: Form,
        #[command(flatten)]
        server: remote::Server,
    },
    /// Tells which route a request would get, why the better-ranked ones refuse it, which plugins
    /// run and which nodes are asked.
    Explain {
        #[command(flatten)]
        asked: explain::Asked,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value_t = Form::Table)]
        output: Form,
    },
    /// Encrypts everything in the store anew with the first key of data_encryption.keyring.
    Reseal {
        #[command(flatten)]
        server: remote::Server,
    },
}

/// How an answer is printed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Table,
    Json,
    Yaml,
}

/// Does what the command line says. Errors are told on stderr; 1 is a failure, 2 a wrong usage.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let config = &arguments.config;
    let done = match arguments.verb {
        Verb::Start => start(&arguments.config),
        Verb::Stop => signal::send(&arguments.config, signal::Order::Stop),
        Verb::Quit => signal::send(&arguments.config, signal::Order::Quit),
        Verb::Reload => signal::send(&arguments.config, signal::Order::Reload),
        Verb::Test => check::check(&arguments.config),
        Verb::Init => init(&arguments.config),
        Verb::Get { kind, id, output, server } => {
            get::get(&server, config, &kind, id.as_deref(), output)
        }
        Verb::Apply { wanted, wait, server } => apply::apply(&server, config, &wanted, wait),
        Verb::Diff { wanted, output, server } => {
            return match apply::diff(&server, config, &wanted, output) {
                Ok(0) => ExitCode::SUCCESS,
                Ok(_) => ExitCode::from(1),
                Err(error) => {
                    tell(&error);
                    // As `diff` of files has it.
                    ExitCode::from(2)
                }
            };
        }
        Verb::Dump { output, server } => get::dump(&server, config, output),
        Verb::Explain { asked, output } => explain::explain(&asked, config, output),
        Verb::Reseal { server } => get::reseal(&server, config),
        Verb::Version => say(&format!("sluice {}", runtime::VERSION)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn tell(error: &anyhow::Error) {
    // Nobody may be reading; the exit code says it too.
    let _ = writeln!(std::io::stderr(), "sluice: {error:#}");
}

fn start(config: &std::path::Path) -> anyhow::Result<()> {
    let loaded = Config::load(config).map_err(anyhow::Error::msg)?;
    runtime::start(loaded)
}

fn init(config: &std::path::Path) -> anyhow::Result<()> {
    if let Some(folder) = config.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    // Asking first whether it is there would leave time for someone else to write it.
    match std::fs::File::create_new(config) {
        Ok(mut file) => {
            let written = file.write_all(SHIPPED.as_bytes());
            written.with_context(|| config.display().to_string())?;
            say(&format!("{}: written", config.display()))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            say(&format!("{}: is there already, left as it is", config.display()))?;
        }
        Err(error) => return Err(error).with_context(|| config.display().to_string()),
    }
    let loaded = Config::load(config).map_err(anyhow::Error::msg)?;
    let data_dir = &loaded.config.sluice.data_dir;
    std::fs::create_dir_all(data_dir).with_context(|| data_dir.display().to_string())?;
    say(&format!("{}: the data folder is there", data_dir.display()))
}

/// Prints a value for scripts.
fn print(value: &serde_json::Value, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Yaml => {
            write!(std::io::stdout(), "{}", crate::resource::yaml::text(value)).context("stdout")
        }
        _ => say(&serde_json::to_string_pretty(value)?),
    }
}

/// Writes a line to stdout.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}
