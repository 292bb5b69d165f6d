//! Configuration: one TOML file, scalar keys also by environment, every mistake reported at once.
//!
//! The file is what `--config` names, else `/etc/hookswitch/hookswitch.toml` when there is one; none is needed. A
//! variable `HOOKSWITCH_` + path with `__` between levels (`HOOKSWITCH_DATABASE__URL`) goes before the file.

mod advice;
mod certificate;
mod changes;
mod feed;
mod http;
mod limits;
mod listener;
mod origins;
mod read;
mod reference;
mod subscription;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use read::{Notes, Origin, Section, Spot, Tree, Value};

use crate::sealing::KeyFile;

pub use certificate::Certificate;
pub use changes::{Changes, Written};
pub use feed::{Feed, Kind, Secret, Tls};
pub use http::Http;
pub use limits::{Limits, Registrar, Retention};
pub use listener::{Auth, Bind, HepKey, Listener, Mode, Protocol};
pub use origins::Origins;
pub use read::Problem;
pub use reference::{page, sample};
pub use subscription::{EXTENSIONS_MAX, Extensions, Subscriptions};

/// Everything an operator can set. `Config::default()` is what runs with no file at all.
#[derive(Clone, Debug)]
pub struct Config {
    /// `data_dir`: folder of the SQLite file, the lock, the key of secrets and the first admin token. Default:
    /// `$STATE_DIRECTORY` (set by systemd), else `/var/lib/hookswitch` for root, else `$XDG_DATA_HOME/hookswitch`, else
    /// `~/.local/share/hookswitch`.
    pub data_dir: PathBuf,
    /// `secret_key_file`: the key that passwords of phones are sealed with in the database: 32 bytes in hexadecimal or base64
    /// (`openssl rand -hex 32`), readable by hookswitch alone. With several, `["NEW", "OLD"]`, the first seals and the others
    /// open what they once sealed. Default: `secret.key` in the data folder, made at the first start. Back it up apart from
    /// the database: without it the passwords are lost. Hosts that share a database need the same one.
    pub secret_keys: Vec<KeyFile>,
    /// `[database]`
    pub database: Database,
    /// `[http]`
    pub http: Http,
    /// `[ops]`
    pub ops: Ops,
    /// `[log]`
    pub log: Log,
    /// `[listeners.NAME]`. With none in the file: `registrar`, `mirror` and `hep` with their defaults.
    pub listeners: Vec<Listener>,
    /// `[feeds.NAME]`: connections of our own to PBXs. Default: none.
    pub feeds: Vec<Feed>,
    /// `[registrar]`
    pub registrar: Registrar,
    /// `[limits]`
    pub limits: Limits,
    /// `[retention]`
    pub retention: Retention,
    /// What was written for each key, to tell what changes when it is read again.
    pub written: Written,
    /// Variables that begin like ours and mean nothing to us; worth a warning, since it may be a slip.
    pub unknown_variables: Vec<String>,
}

/// `[database]`: where everything is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// `url`: `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/NAME`. Default: SQLite, in `hookswitch.db` in the data folder.
    /// `url_file`: the file that holds it instead, for a password that others may not read (a systemd credential,
    /// docs/systemd.md).
    pub url: String,
}

/// `[ops]`: metrics and health, apart from the API so that they need no credentials and are not exposed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ops {
    /// `listen`: addresses of `/metrics` for Prometheus, `/livez` and `/readyz`. No credentials are asked for here.
    pub listen: Vec<SocketAddr>,
}

/// `[log]`: lines on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `level`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,hookswitch::ingest=debug`.
    pub level: String,
    /// `format`: `auto` (for people on a terminal, else JSON), `human` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {path}: {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Mistakes, all of them, each on its own line.
    #[error("{}", report(file.as_deref(), problems))]
    Mistakes {
        /// The file read, if any.
        file: Option<PathBuf>,
        /// What is wrong with it and with the environment.
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads `file`, else [`DEFAULT_FILE`] when it is there, and lays the environment over it.
    ///
    /// # Errors
    /// When the file can't be read, or with every mistake in it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file =
            file.map(Path::to_path_buf).or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        let text = match &file {
            Some(path) => {
                std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?
            }
            None => String::new(),
        };
        // Variables that are not text can't be ours; `std::env::vars` would panic on them.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::parse(&text, variables).map_err(|problems| ConfigError::Mistakes { file, problems })
    }

    /// Reads a configuration from its text and the environment.
    ///
    /// # Errors
    /// Every mistake, in the order of the lines.
    pub fn parse(text: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Vec<Problem>> {
        let mut notes = Notes::default();
        let mut tree = read::parse(text, &mut notes.problems);
        if !tree.contains_key("listeners") {
            tree.insert("listeners".into(), default_listeners());
        }
        let unknown_variables = read::overlay(&mut tree, environment, &TOP, &RESERVED, &mut notes.problems);
        let written = Written::of(&tree);
        let config = Self { written, ..Self::read(Section::top(tree, &mut notes), unknown_variables) };
        let problems = notes.finish();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    fn read(mut top: Section<'_>, unknown_variables: Vec<String>) -> Self {
        let data_dir = top.text("data_dir").map_or_else(default_data_dir, PathBuf::from);
        let config = Self {
            database: Database::read(top.section("database"), &data_dir),
            data_dir,
            secret_keys: top.list("secret_key_file", |path| KeyFile::read(Path::new(path))).unwrap_or_default(),
            http: Http::read(top.section("http")),
            ops: Ops::read(top.section("ops")),
            log: Log::read(top.section("log")),
            listeners: read_listeners(top.section("listeners")),
            feeds: read_feeds(top.section("feeds")),
            registrar: Registrar::read(top.section("registrar")),
            limits: Limits::read(top.section("limits")),
            retention: Retention::read(top.section("retention")),
            written: Written::default(),
            unknown_variables,
        };
        top.finish();
        config
    }
}

impl Default for Config {
    fn default() -> Self {
        let tree = Tree::from([("listeners".to_owned(), default_listeners())]);
        Self::read(Section::top(tree, &mut Notes::default()), Vec::new())
    }
}

impl Database {
    fn read(mut section: Section<'_>, data_dir: &Path) -> Self {
        let url = section.parsed("url", database_url);
        let origin = section.origin("url_file");
        let in_file = section.parsed("url_file", |path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?;
            database_url(text.trim()).map_err(|what| format!("the text in {path} {what}"))
        });
        if url.is_some() && in_file.is_some() {
            section.problem(&origin, "url_file", "there is url as well; take one of them out");
        }
        section.finish();
        let url = url.or(in_file);
        Self { url: url.unwrap_or_else(|| format!("sqlite:{}", data_dir.join("hookswitch.db").display())) }
    }

    /// The URL without its password, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let Some((scheme, rest)) = self.url.split_once("://") else { return self.url.clone() };
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        // A query may carry a password as well; nobody needs the rest of it to tell which database this is.
        let path = tail.split('?').next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((login, host)) => {
                let user = login.split(':').next().unwrap_or_default();
                format!("{scheme}://{user}@{host}{path}")
            }
            None => format!("{scheme}://{authority}{path}"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &self.shown()).finish()
    }
}

impl Ops {
    fn read(mut section: Section<'_>) -> Self {
        let listen = section.list("listen", parse_address).unwrap_or_else(|| vec![loopback(9464)]);
        section.finish();
        Self { listen }
    }
}

impl Log {
    fn read(mut section: Section<'_>) -> Self {
        let level = section.parsed("level", |text| {
            text.parse::<tracing_subscriber::filter::Targets>().map_err(|error| error.to_string())?;
            Ok(text.to_owned())
        });
        let format = section.word("format", "format", &FORMATS, Some("auto"));
        section.finish();
        Self { level: level.unwrap_or_else(|| "info".into()), format: format.unwrap_or_default() }
    }
}

fn read_listeners(mut section: Section<'_>) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for name in section.names() {
        listeners.extend(Listener::read(&name, section.section(&name)));
    }
    let clash = listener::clash(&listeners).map(|(one, other, bind)| {
        let what = format!("{bind} is taken by listeners.{} already; one port, one listener", other.name);
        (format!("{}.bind", one.name), what)
    });
    if let Some((key, what)) = clash {
        section.problem(&Origin::Default, &key, what);
    }
    listeners
}

fn read_feeds(mut section: Section<'_>) -> Vec<Feed> {
    section.names().iter().filter_map(|name| Feed::read(name, section.section(name))).collect()
}

fn default_listeners() -> Spot {
    let empty = || Spot { origin: Origin::Default, value: Value::Table(Tree::new()) };
    let names = ["hep", "mirror", "registrar"];
    let tree = names.into_iter().map(|name| (name.to_owned(), empty())).collect();
    Spot { origin: Origin::Default, value: Value::Table(tree) }
}

fn default_data_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd may name several, parted by colons; ours is the first.
    let state = std::env::var("STATE_DIRECTORY").ok().and_then(|list| list.split(':').next().map(PathBuf::from));
    if let Some(state) = state.filter(|path| path.is_absolute()) {
        return state;
    }
    if is_root() {
        return PathBuf::from("/var/lib/hookswitch");
    }
    let share = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    share.map_or_else(|| PathBuf::from("/var/lib/hookswitch"), |share| share.join("hookswitch"))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;

    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn report(file: Option<&Path>, problems: &[Problem]) -> String {
    let place = file.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
    let mut text = match problems.len() {
        1 => format!("one mistake in {place}:"),
        count => format!("{count} mistakes in {place}:"),
    };
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}

fn database_url(text: &str) -> Result<String, String> {
    let known = ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme));
    // The text may hold a password, so it is not shown again.
    if known { Ok(text.to_owned()) } else { Err("must begin with sqlite: or postgres:".to_owned()) }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address and port; write 127.0.0.1:8080 or [::1]:8080"))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Read when `--config` names none and it exists.
pub const DEFAULT_FILE: &str = "/etc/hookswitch/hookswitch.toml";
/// The key file in the data folder, which is made when no other is named.
pub const SECRET_KEY: &str = "secret.key";
const TOP: [&str; 11] = [
    "data_dir",
    "secret_key_file",
    "database",
    "http",
    "ops",
    "log",
    "listeners",
    "feeds",
    "registrar",
    "limits",
    "retention",
];
const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)];
/// Variables the command line reads for itself.
const RESERVED: [&str; 3] = ["config", "token", "url"];

#[cfg(test)]
mod tests;
