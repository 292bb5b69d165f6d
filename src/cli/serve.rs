//! `hookswitch serve` and `migrate`.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use hookswitch::config::Config;
use hookswitch::http::secret::Secret;
use hookswitch::lifecycle::Daemon;
use hookswitch::store::Store;
use hookswitch::telemetry;

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start(&config.log);
    for name in &config.unknown_variables {
        tracing::warn!(name, "this environment variable begins like ours and means nothing to us");
    }
    // Before the first listener answers: a signal that comes early must not be lost.
    let mut terminate = signal(SignalKind::terminate()).context("can't hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't hear SIGINT")?;
    let mut daemon = Daemon::start(&config).await?;
    let token = daemon.first_token.take();
    greet(&config, file, &daemon, token.as_ref())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    println!("stopping");
    daemon.stop().await;
    Ok(())
}

/// Brings the database up to date and ends.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    // SQLite makes its file, not the folder around it.
    let _data_dir = hookswitch::data_dir::DataDir::open(&config.data_dir)?;
    Store::open(&config.database.url).await.with_context(|| format!("database.url: {}", config.database.shown()))?;
    println!("{} is up to date", config.database.shown());
    Ok(())
}

/// Says what listens where.
pub fn list_listeners(daemon: &Daemon) {
    println!("hookswitch {}", env!("CARGO_PKG_VERSION"));
    for listening in &daemon.sip {
        let (mode, protocol) = (listening.mode.as_str(), listening.protocol.as_str());
        println!(
            "  SIP {mode:<10} {protocol} {:<22} [listeners.{}]",
            listening.address.to_string(),
            listening.listener
        );
    }
    for address in &daemon.http {
        println!("  HTTP API       http://{address}");
    }
    for address in &daemon.ops {
        println!("  operations     http://{address}/metrics, /livez, /readyz");
    }
}

/// Says what listens where, and what to try next.
fn greet(config: &Config, file: Option<&Path>, daemon: &Daemon, token: Option<&Secret>) -> anyhow::Result<()> {
    list_listeners(daemon);
    println!("  data           {}, {}", daemon.data_dir().display(), config.database.shown());
    let token = match token {
        Some(secret) if std::io::stdout().is_terminal() => {
            println!("\n  first admin token, shown this once: {}", secret.reveal());
            secret.reveal().to_owned()
        }
        Some(secret) => {
            let path = daemon.keep_first_token(secret).context("can't file the first admin token")?;
            println!("\n  first admin token: in {}", path.display());
            format!("\"$(cat '{}')\"", path.display())
        }
        None => "…".to_owned(),
    };
    let program = std::env::args().next().unwrap_or_else(|| "hookswitch".to_owned());
    let program = match file {
        Some(file) => format!("{program} --config {}", file.display()),
        None => program,
    };
    println!("\nTry, each in a terminal of its own:");
    println!("  {program} watch --token {token}");
    println!("  {program} phone 101 --token {token}");
    println!("  {program} ring 101 --from +14155550100");
    println!("\nCtrl-C ends it.");
    Ok(())
}
