//! `hookswitch migrate`, `copy`, `backup` and `restore`: care of the database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use hookswitch::config::{Config, Database, SECRET_KEY};
use hookswitch::data_dir::DataDir;
use hookswitch::lifecycle::open_store;
use hookswitch::sealing::KeyFile;
use hookswitch::store::{self, BackupError, Progress, SealedWith, Timeouts, known_schema};

use super::say;

/// From where to where.
#[derive(Debug, Args)]
pub struct CopyArguments {
    /// The database to copy, `sqlite:FILE` or `postgres://USER@HOST/NAME`. No daemon may run on it. The password of Postgres
    /// is better in PGPASSWORD or ~/.pgpass than here, where every user of the machine can read it.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The empty database to copy it to.
    #[arg(long, value_name = "URL")]
    to: String,
}

/// Where a backup is, or is to be.
#[derive(Debug, Args)]
pub struct FileArgument {
    /// The file of the backup.
    file: PathBuf,
}

/// Brings the database up to date and ends.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    // SQLite makes its file, not the folder around it.
    let data_dir = DataDir::open(&config.data_dir)?;
    open_store(config, &data_dir).await?;
    say(format_args!("{} is up to date, schema {}", config.database.shown(), known_schema()))
}

/// Copies one database to another, empty one.
pub async fn copy(arguments: CopyArguments) -> anyhow::Result<()> {
    let shown = |url: &str| Database { url: url.to_owned() }.shown();
    let CopyArguments { from, to } = arguments;
    eprintln!(
        "copying {} to {}; nothing is kept before all of it was read back and compared",
        shown(&from),
        shown(&to)
    );
    let timeouts = Timeouts { exclusive: LETTING_GO, ..Timeouts::default() };
    let mut told = 0;
    let mut report = |progress: Progress| {
        let Progress { table, rows, of, is_check } = progress;
        if rows < told {
            told = 0;
        }
        if rows == of || rows >= told + TELL_EVERY {
            told = rows;
            if of > 0 {
                eprintln!("  {table}: {rows} of {of} {}", if is_check { "compared" } else { "written" });
            }
        }
    };
    let copied = store::copy(&from, &to, timeouts, &mut report).await?;
    say(format_args!("{:<16} {:>12}  checksum, the same on both sides", "table", "rows"))?;
    for table in &copied {
        say(format_args!("{:<16} {:>12}  {}", table.table, table.rows, table.checksum))?;
    }
    say(format_args!("\neverything was copied; database.url = \"{}\" makes the daemon use it", shown(&to)))?;
    if copied.iter().any(|table| table.table == "sealed_secrets" && table.rows > 0) {
        say("phones' passwords are sealed as before: the same secret.key (secret_key_file) is needed with it")?;
    }
    Ok(())
}

/// Makes a backup of the embedded database, beside a serving daemon or without one.
pub async fn backup(config: &Config, arguments: FileArgument) -> anyhow::Result<()> {
    let file = arguments.file;
    let kept = store::backup(&config.database.url, &file).await.map_err(said(config))?;
    say(format_args!("{}: {} bytes, schema {}, whole and checked", file.display(), kept.bytes, kept.schema))?;
    if kept.sealed_with.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = key_files(config).iter().map(|path| path.display().to_string()).collect();
    say(format_args!(
        "not in it: {}. The passwords of {} phones in it open with that key only; keep a copy of it somewhere else",
        if keys.is_empty() { SECRET_KEY.to_owned() } else { keys.join(", ") },
        kept.sealed_with.iter().map(|sealed| sealed.devices).sum::<i64>(),
    ))
}

/// Makes a backup the embedded database again.
pub async fn restore(config: &Config, arguments: FileArgument) -> anyhow::Result<()> {
    // Says itself what to do when a daemon runs on it; its lock is ours until this is done.
    let _data_dir = DataDir::open(&config.data_dir)?;
    let file = arguments.file;
    let restored = store::restore(&config.database.url, &file).await.map_err(said(config))?;
    let (shown, schema) = (config.database.shown(), restored.kept.schema);
    say(format_args!("{shown} is what {} held: {} bytes, schema {schema}", file.display(), restored.kept.bytes))?;
    if let Some(aside) = &restored.aside {
        say(format_args!("what was there before is in {}; delete it when you don't need it", aside.display()))?;
    }
    for SealedWith { key, devices } in &restored.kept.sealed_with {
        if !ids_at_hand(config).contains(key) {
            say(format_args!(
                "the passwords of {devices} phones in it are sealed with key {key}, which is not at hand: bring the backup of \
                 {SECRET_KEY} back, or hookswitch will not start"
            ))?;
        }
    }
    Ok(())
}

/// Which key of the configuration it is about, where it is about the database.
fn said(config: &Config) -> impl FnOnce(BackupError) -> anyhow::Error {
    let shown = config.database.shown();
    move |error| match error {
        BackupError::NotEmbedded | BackupError::Store(_) => {
            anyhow::Error::new(error).context(format!("database.url: {shown}"))
        }
        error => error.into(),
    }
}

fn key_files(config: &Config) -> Vec<PathBuf> {
    match config.secret_keys.as_slice() {
        [] => Some(config.data_dir.join(SECRET_KEY)).filter(|path| path.exists()).into_iter().collect(),
        named => named.iter().map(|file| file.path.clone()).collect(),
    }
}

fn ids_at_hand(config: &Config) -> Vec<String> {
    let read = |path: &Path| KeyFile::read(path).map(|file| file.key.id().to_string()).ok();
    key_files(config).iter().filter_map(|path| read(path)).collect()
}

/// How long a daemon that is stopping may take to let go of its database.
const LETTING_GO: Duration = Duration::from_secs(1);

/// Rows of a table between two lines about them.
const TELL_EVERY: u64 = 100_000;
