//! The commands. `serve` is what runs when none is named.

mod access;
mod api;
mod database;
mod demo;
mod describe;
mod files;
mod line;
mod phone;
mod replay;
mod ring;
mod serve;
mod sse;
mod watch;
mod why;

use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueHint};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use hookswitch::activation::Handed;
use hookswitch::config::Config;

use api::Api;

/// Knows which phone rings and whose screen must pop.
#[derive(Debug, Parser)]
#[command(name = "hookswitch", version, about, arg_required_else_help = false)]
pub struct Arguments {
    /// Configuration file; without it /etc/hookswitch/hookswitch.toml if there. None is needed.
    #[arg(long, value_name = "FILE", global = true, env = "HOOKSWITCH_CONFIG")]
    config: Option<PathBuf>,
    /// Print an annotated configuration that says what holds when nothing is set, and end; `markdown` is the page of the
    /// documentation.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "toml")]
    print_defaults: Option<describe::Format>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default).
    Serve,
    /// Read the configuration, say everything that is wrong with it, and end: with code 1 if anything is.
    Check {
        /// The file to read, in place of --config.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Bring the database up to this version and end. A start does the same.
    Migrate,
    /// Copy a whole database into another, empty one, embedded or Postgres, and prove that all of it arrived.
    Copy(database::CopyArguments),
    /// Write a backup of the embedded database into a file, while the daemon serves or without one.
    Backup(database::FileArgument),
    /// Make a backup the embedded database again; what was there before is kept beside it. The daemon must be stopped.
    Restore(database::FileArgument),
    /// Say what a capture would have made the daemon do: devices, registrations, calls, and who would have got a popup.
    Replay(replay::Arguments),
    /// Serve a small office of phones that call each other, and print what happens.
    Demo(demo::Arguments),
    /// Manage users.
    #[command(subcommand)]
    User(access::UserCommand),
    /// Manage API tokens.
    #[command(subcommand)]
    Token(access::TokenCommand),
    /// Be a phone: register an extension over SIP, link it to the token's user, stay until Ctrl-C.
    Phone(phone::Arguments),
    /// Let a phone ring: send the mirror listener what a PBX's mirror shows of a call to an extension.
    Ring(ring::Arguments),
    /// Print my popups as they come.
    Watch(watch::Arguments),
    /// Say why calls popped or did not: the reasons that were recorded for each.
    Why(why::Arguments),
    /// Print the completions of a shell.
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands.
    Man {
        /// The folder to write them to.
        #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
    },
}

/// How a command reaches the API of a running daemon.
#[derive(Clone, Debug, Args)]
pub struct Access {
    /// API token; the daemon prints or files the first one at its first start.
    #[arg(long, env = "HOOKSWITCH_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where the API listens; by default as the configuration says.
    #[arg(long, env = "HOOKSWITCH_URL", value_name = "URL")]
    url: Option<String>,
}

impl Access {
    fn open(&self, config: &Config) -> anyhow::Result<Api> {
        let token = self.token.as_deref().context(
            "this needs a token: --token … or HOOKSWITCH_TOKEN; `hookswitch token create` makes one while the daemon is stopped",
        )?;
        Ok(Api::new(&self.base(config)?, token))
    }

    fn base(&self, config: &Config) -> anyhow::Result<String> {
        match (&self.url, config.http.listen.first()) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(address)) => Ok(Api::base_of(*address)),
            (None, None) => anyhow::bail!("http.listen is empty; --url says where the API is"),
        }
    }
}

/// Runs the command named on the command line; the code is what the process ends with.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Some(format) = arguments.print_defaults {
        return describe::print_defaults(format).map(|()| ExitCode::SUCCESS);
    }
    // These need neither a configuration nor a runtime.
    match &arguments.command {
        Some(Command::Replay(arguments)) => return replay::run(arguments),
        Some(Command::Check { file }) => {
            return check(file.as_deref().or(arguments.config.as_deref())).map(|()| ExitCode::SUCCESS);
        }
        Some(Command::Completions { shell }) => {
            return describe::completions(*shell).map(|()| ExitCode::SUCCESS);
        }
        Some(Command::Man { folder }) => return describe::man(folder.as_deref()).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let config = Config::load(arguments.config.as_deref())?;
    let command = arguments.command.unwrap_or(Command::Serve);
    let is_daemon = matches!(command, Command::Serve);
    // Before there are threads.
    let handed = if is_daemon { Handed::from_environment()? } else { Handed::default() };
    let workers = runtime(&mut Builder::new_multi_thread())?;
    let result = if is_daemon {
        // See `Daemon::start_on`.
        let sip = runtime(Builder::new_multi_thread().worker_threads(1).thread_name("sip"))?;
        let served = sip.block_on(serve::serve(config, arguments.config.as_deref(), handed, workers.handle()));
        sip.shutdown_background();
        served
    } else {
        workers.block_on(dispatch(command, config))
    };
    workers.shutdown_timeout(END_WITHIN);
    result.map(|()| ExitCode::SUCCESS)
}

fn runtime(threads: &mut Builder) -> anyhow::Result<Runtime> {
    threads.enable_all().build().context("can't start the runtime")
}

/// Says what is wrong with the configuration, which is an error, or that nothing is.
fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    for name in &config.unknown_variables {
        say(format_args!("environment {name}: begins like ours and means nothing to us"))?;
    }
    say("the configuration is good")
}

/// Prints a line. When nobody reads it any more a command has nothing left to do, and ends in good order.
fn say(line: impl Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("nobody reads what is printed")
}

/// Does `work` until it is done, or Ctrl-C or SIGTERM comes, whatever it is at then.
async fn until_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't hear Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't hear SIGTERM")?;
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn dispatch(command: Command, config: Config) -> anyhow::Result<()> {
    match command {
        // They have been run without a runtime, or with two.
        Command::Check { .. }
        | Command::Replay(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Serve => Ok(()),
        Command::Migrate => database::migrate(&config).await,
        Command::Copy(arguments) => database::copy(arguments).await,
        Command::Backup(arguments) => database::backup(&config, arguments).await,
        Command::Restore(arguments) => database::restore(&config, arguments).await,
        Command::Demo(arguments) => demo::run(config, arguments).await,
        Command::User(command) => access::user(&config, command).await,
        Command::Token(command) => access::token(&config, command).await,
        Command::Phone(arguments) => phone::run(&config, arguments).await,
        Command::Ring(arguments) => ring::run(&config, arguments).await,
        Command::Watch(arguments) => watch::run(&config, arguments).await,
        Command::Why(arguments) => why::run(&config, arguments).await,
    }
}

/// A name look-up or a stuck file system must not keep us from ending.
const END_WITHIN: Duration = Duration::from_secs(2);
