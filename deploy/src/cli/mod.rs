//! The command line: one file a subcommand, each declaring its flags once.
//!
//! Called by: `main`.
//! Must never know: what lies behind a role; a subcommand turns flags into that role's config and awaits it.

mod admin;
mod bookie;
mod broker;
mod client;
mod metadata;
mod perf;
mod standalone;
mod units;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::settings;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "magnetar", version, about = "A messaging system that speaks Apache Pulsar's protocols")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do, with its flags already merged with environment and config file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole system in one process: metadata, bookies and a broker
    Standalone(standalone::Args),
    /// A broker: serves clients and keeps its topics in ledgers on bookies
    Broker(broker::Args),
    /// A bookie: makes ledger entries durable and serves them
    Bookie(bookie::Args),
    /// Administer a cluster: the nouns and verbs of pulsar-admin
    Admin(admin::Args),
    /// Publish or receive messages by hand
    Client(client::Args),
    /// Measure throughput and latency
    Perf(perf::Args),
}

/// A command line that cannot be run (or only asked for help).
#[derive(Debug)]
pub(crate) enum Refused {
    /// Clap's own answer: help, version, or a usage error.
    Usage(clap::Error),
    /// The config file cannot be used.
    Settings(settings::SettingsError),
}

impl Refused {
    /// Prints the reason (help goes to stdout as it is, an error is one line on stderr) and tells the exit code:
    /// 0 for help, 2 for a usage error as is custom, 1 for the rest.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Refused::Usage(error) if !error.use_stderr() => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            Refused::Usage(error) => {
                use clap::error::ErrorKind;
                if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                    let _ = error.print();
                } else {
                    eprintln!("magnetar: {}: see --help", usage_in_one_line(&error.to_string()));
                }
                ExitCode::from(2)
            }
            Refused::Settings(error) => {
                eprintln!("magnetar: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Clap's message is a paragraph; its first block says what is wrong, the rest repeats the usage.
fn usage_in_one_line(message: &str) -> String {
    let block = message.split("\n\n").next().unwrap_or(message);
    let words = block.split_whitespace().collect::<Vec<_>>().join(" ");
    words.strip_prefix("error: ").map(str::to_owned).unwrap_or(words)
}

/// Prints a failure as the one line the contract promises and gives its exit code.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("magnetar: {}", failure_in_one_line(error));
    ExitCode::FAILURE
}

/// The chain of causes, without those that the text before already tells: library errors often name their cause.
fn failure_in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// Parses `arguments` (program name first); `environment` looks up one variable. Flags win over environment
/// variables, those over the config file, that over the defaults.
pub(crate) fn parse(
    arguments: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, Refused> {
    let command = settings::layered(Cli::command(), arguments, environment).map_err(Refused::Settings)?;
    let matches = command.try_get_matches_from(arguments).map_err(Refused::Usage)?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command).map_err(Refused::Usage)
}

/// Runs a command until it ends by itself or by a signal, and gives the process its exit code.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bookie(args) => return bookie::run(args).await,
        Command::Standalone(args) => standalone::run(args).await,
        Command::Broker(args) => broker::run(args).await,
        Command::Admin(args) => admin::run(args).await,
        Command::Client(args) => client::run(args).await,
        Command::Perf(args) => perf::run(args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn standalone(line: &str, environment: &[(&str, &str)]) -> standalone::Args {
        let lookup = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        match parse(&words(line), lookup) {
            Ok(Command::Standalone(args)) => args,
            other => panic!("not a standalone command: {other:?}"),
        }
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("magnetar.toml");
        std::fs::write(&file, "[standalone]\nbroker-port = 1\nhttp_port = 1\nbookies = 5\n").unwrap();
        let line = format!("magnetar standalone --config {} --broker-port 3", file.display());
        let environment = [("MAGNETAR_STANDALONE_BROKER_PORT", "2"), ("MAGNETAR_STANDALONE_HTTP_PORT", "2")];
        let args = standalone(&line, &environment);
        assert_eq!((args.broker_port, args.http_port, args.bookies), (3, 2, 5));
        assert_eq!(args.cluster, "standalone");
    }

    #[test]
    fn the_config_file_itself_can_come_from_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("magnetar.toml");
        std::fs::write(&file, "[standalone]\ncluster = \"green\"\n[bookie]\nport = 1\n").unwrap();
        let args =
            standalone("magnetar standalone", &[("MAGNETAR_STANDALONE_CONFIG", file.to_str().unwrap())]);
        assert_eq!(args.cluster, "green");
    }

    #[test]
    fn a_bad_value_from_any_layer_is_one_clear_line() {
        let environment = |name: &str| (name == "MAGNETAR_STANDALONE_BROKER_PORT").then(|| "many".into());
        let Err(Refused::Usage(error)) = parse(&words("magnetar standalone"), environment) else {
            panic!("accepted a port that is no number");
        };
        let line = usage_in_one_line(&error.to_string());
        assert!(line.contains("'many'") && line.contains("--broker-port"), "{line}");
        assert!(!line.contains('\n') && !line.starts_with("error"), "{line}");
    }

    #[test]
    fn a_failure_tells_each_cause_once() {
        let io = std::io::Error::other("disk\n  gone");
        let told = anyhow::Error::new(io).context("journal: disk gone: replace it").context("bookie 1");
        assert_eq!(failure_in_one_line(&told), "bookie 1: journal: disk gone: replace it");
    }

    #[test]
    fn help_names_defaults_and_environment_variables() {
        let Err(Refused::Usage(help)) = parse(&words("magnetar standalone --help"), |_| None) else {
            panic!("--help was not answered");
        };
        let text = help.to_string();
        for expected in ["[default: 6650]", "MAGNETAR_STANDALONE_BROKER_PORT", "--data-dir"] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }
}
