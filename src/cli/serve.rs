//! `hookswitch serve`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use hookswitch::activation::Handed;
use hookswitch::config::{Changes, Config};
use hookswitch::http::secret::Secret;
use hookswitch::lifecycle::{Daemon, FIRST_TOKEN};
use hookswitch::supervision::Supervisor;
use hookswitch::telemetry::{self, Logging};

/// Serves on what was `handed` over, the slower half on `workers`, until SIGTERM or SIGINT; SIGHUP has the configuration and certificates read again.
pub async fn serve(config: Config, file: Option<&Path>, handed: Handed, workers: &Handle) -> anyhow::Result<()> {
    let logging = telemetry::start(&config.log);
    let tell_of_files = super::files::raise_limit();
    for name in &config.unknown_variables {
        tracing::warn!(name, "this environment variable begins like ours and means nothing to us");
    }
    // Before the first listener answers: a signal that comes early must not be lost.
    let mut terminate = signal(SignalKind::terminate()).context("can't hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't hear SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("can't hear SIGHUP")?;
    let supervisor = Supervisor::from_environment();
    let mut daemon = Daemon::start_on(&config, handed, workers).await?;
    tell_of_files();
    let first_token = daemon.first_token.take();
    print(&greeting(&config, file, &daemon, first_token)?);
    supervisor.ready(daemon.status());
    daemon.report_to(supervisor.clone());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                supervisor.reloading();
                reload(&daemon, file, &logging).await;
                supervisor.ready(daemon.status());
            }
        }
    }
    tracing::info!("stopping");
    supervisor.stopping("stopping");
    daemon.stop().await;
    Ok(())
}

/// Reads the configuration again and takes up what may change while we serve. One with a mistake changes nothing.
async fn reload(daemon: &Daemon, file: Option<&Path>, logging: &Logging) {
    let file = file.map(Path::to_path_buf);
    let read = tokio::task::spawn_blocking(move || Config::load(file.as_deref())).await;
    let config = match read.map_err(anyhow::Error::from).and_then(|read| read.map_err(anyhow::Error::from)) {
        Ok(config) => config,
        Err(error) => {
            let what = error.to_string().replace("\n  ", " ");
            tracing::error!(what, "the configuration can't be read again; everything stays as it was");
            // They may be all that changed, and each listener's stand for themselves.
            return daemon.reload_certificates();
        }
    };
    logging.set_level(&config.log.level);
    let Changes { taken, waiting } = daemon.reload(config);
    tracing::info!(changed = taken.join(", "), "the configuration was read again");
    if !waiting.is_empty() {
        tracing::warn!(keys = waiting.join(", "), "changed in the configuration, and needs a restart to take effect");
    }
}

/// What listens where, a line each.
pub fn listeners(daemon: &Daemon) -> String {
    let mut lines = vec![format!("hookswitch {}", env!("CARGO_PKG_VERSION"))];
    lines.extend(daemon.sip.iter().map(|listening| {
        let (mode, protocol) = (listening.mode.as_str(), listening.protocol.as_str());
        format!("  SIP {mode:<10} {protocol} {:<22} [listeners.{}]", listening.address.to_string(), listening.listener)
    }));
    lines.extend(daemon.http.iter().map(|address| format!("  HTTP API       http://{address}")));
    let ops = daemon.ops.iter().map(|address| format!("  operations     http://{address}/metrics, /livez, /readyz"));
    lines.extend(ops);
    lines.push(String::new());
    lines.join("\n")
}

/// What listens where, and what to try next.
fn greeting(
    config: &Config,
    file: Option<&Path>,
    daemon: &Daemon,
    first_token: Option<(Secret, PathBuf)>,
) -> anyhow::Result<String> {
    let mut text = listeners(daemon);
    writeln!(text, "  data           {}, {}", daemon.data_dir().display(), config.database.shown())?;
    let token = match first_token {
        Some((secret, file)) if std::io::stdout().is_terminal() => {
            writeln!(text, "\n  first admin token, shown this once: {}", secret.reveal())?;
            std::fs::remove_file(file).context("can't remove the file of the first admin token")?;
            secret.reveal().to_owned()
        }
        _ if daemon.data_dir().join(FIRST_TOKEN).exists() => {
            let file = daemon.data_dir().join(FIRST_TOKEN);
            writeln!(text, "\n  first admin token: in {}", file.display())?;
            format!("\"$(cat '{}')\"", file.display())
        }
        _ => {
            writeln!(text, "\n  no token at hand? While this is stopped, `hookswitch token create` makes one")?;
            "…".to_owned()
        }
    };
    let program = std::env::args().next().unwrap_or_else(|| "hookswitch".to_owned());
    let program = file.map_or_else(|| program.clone(), |file| format!("{program} --config {}", file.display()));
    writeln!(text, "\nTry, each in a terminal of its own:")?;
    writeln!(text, "  {program} watch --token {token}")?;
    writeln!(text, "  {program} phone 101 --token {token}")?;
    writeln!(text, "  {program} ring 101 --from +14155550100")?;
    writeln!(text, "\nCtrl-C ends it.")?;
    Ok(text)
}

/// Prints, and goes on when nobody reads it: a daemon must not end with the terminal it was started from.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
