//! `hookswitch demo`: a small office whose phones send real SIP to a daemon in this very process, and what comes of it.

mod exchange;
mod office;
mod show;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use hookswitch::config::{Bind, Config, Log, Mode, Protocol};
use hookswitch::ingest::sip::Listening;
use hookswitch::lifecycle::{Daemon, StartError};
use hookswitch::telemetry;

use super::api::Api;
use super::serve::listeners;
use super::{say, until_stopped};
use exchange::Exchange;
use office::Office;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// End after so many rounds of calls; without it Ctrl-C ends it.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Milliseconds between what happens.
    #[arg(long, default_value_t = 1500, value_name = "MILLISECONDS")]
    pace: u64,
}

/// Serves, plays and prints until Ctrl-C or the last round.
pub async fn run(config: Config, arguments: Arguments) -> anyhow::Result<()> {
    // What the daemon would log is not what a newcomer wants to see between the calls.
    telemetry::start(&Log { level: "warn".into(), ..config.log });
    let folder = Folder(std::env::temp_dir().join(format!("hookswitch-demo-{}", std::process::id())));
    let mut daemon = start(&folder.0).await?;
    say(listeners(&daemon).trim_end())?;
    say(format_args!("  data           {} (removed at the end)\n", folder.0.display()))?;
    let result = until_stopped(play(&mut daemon, &arguments)).await;
    daemon.stop().await;
    result
}

/// A folder that goes with us.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing of worth is in it, and there is nobody to tell.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// On the default ports, or on free ones when those are taken.
async fn start(folder: &Path) -> anyhow::Result<Daemon> {
    let mut config = Config { data_dir: folder.to_path_buf(), ..Config::default() };
    config.database.url = format!("sqlite:{}", folder.join("hookswitch.db").display());
    match Daemon::start(&config).await {
        Err(StartError::Bind(_) | StartError::Listen { .. }) => {
            for bind in config.listeners.iter_mut().flat_map(|listener| &mut listener.bind) {
                bind.address.set_port(0);
            }
            config.http.listen.iter_mut().chain(&mut config.ops.listen).for_each(|address| address.set_port(0));
            say("the default ports are taken; using free ones")?;
            Ok(Daemon::start(&config).await?)
        }
        started => Ok(started?),
    }
}

async fn play(daemon: &mut Daemon, arguments: &Arguments) -> anyhow::Result<()> {
    let (token, _) = daemon.first_token.take().context("the demo's database is not new")?;
    let base = Api::base_of(*daemon.http.first().context("no API listens")?);
    let api = Api::new(&base, token.reveal());
    let registrar = udp(&daemon.sip, Mode::Registrar)?;
    let mirror = udp(&daemon.sip, Mode::Mirror)?;
    show::admin(&api).await?;
    let mut office = Office::open(&api, &base, registrar).await?;
    let exchange = Exchange::open(mirror.address, Duration::from_millis(arguments.pace)).await?;
    let mut round = 0;
    while arguments.rounds.is_none_or(|rounds| round < rounds) {
        round += 1;
        say(format_args!("\n── round {round}"))?;
        office.refresh(registrar.address).await?;
        exchange.play(&office).await?;
    }
    // Let the last event come in before everything ends.
    tokio::time::sleep(LAST_WORD).await;
    Ok(())
}

fn udp(sip: &[Listening], mode: Mode) -> anyhow::Result<Bind> {
    let found = sip.iter().find(|listening| listening.mode == mode && listening.protocol == Protocol::Udp);
    let address = found.with_context(|| format!("no {} listens on UDP", mode.as_str()))?.address;
    Ok(Bind { protocol: Protocol::Udp, address })
}

const LAST_WORD: Duration = Duration::from_millis(500);
