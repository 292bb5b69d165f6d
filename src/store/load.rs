//! Reads all that lives in memory, once, at start.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::cell::{At, Readable, seq};
use super::engine::Engine;
use super::log::{self, Log, Met};
use super::past::CallRow;
use super::records::{AccountRow, DeviceRow, LinkRow, PbxRow, QueueRow, SiteRow, TokenRow, UserRow};
use super::{Seq, Store, StoreError, Stored, contacts};
use crate::model::{Account, Binding, Call, Device, DeviceId, DeviceSecret, Link, Now, Pbx, Queue, Site, Token, User};

/// Everything the registry keeps in memory, as the database has it.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Tenants.
    pub accounts: Vec<Stored<Account>>,
    /// Sites.
    pub sites: Vec<Stored<Site>>,
    /// PBXs.
    pub pbxs: Vec<Stored<Pbx>>,
    /// People.
    pub users: Vec<Stored<User>>,
    /// Queues.
    pub queues: Vec<Stored<Queue>>,
    /// Tokens.
    pub tokens: Vec<Stored<Token>>,
    /// Devices.
    pub devices: Vec<Stored<Device>>,
    /// Bindings of devices that have any.
    pub bindings: Vec<LoadedBindings>,
    /// SIP passwords of devices.
    pub secrets: Vec<Stored<DeviceSecret>>,
    /// Links that last.
    pub links: Vec<Stored<Link>>,
    /// Calls that had not ended, and the latest ones whether ended or not: late copies must not start them anew. With
    /// each, the last position in its trail if it had not ended.
    pub calls: Vec<(Call, u32)>,
    /// Highest number that was ever given to a change that is stored.
    pub seq: Seq,
    /// Where the log of bindings ends.
    pub log: Log,
}

/// The bindings of one device, as they are written down: a million of them read would be three times as large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedBindings {
    /// The device.
    pub device: DeviceId,
    contacts: Box<str>,
    /// Number of their last change.
    pub seq: Seq,
    /// The commit that appended them to the log.
    pub commit: u64,
}

impl LoadedBindings {
    /// All of them. Deadlines are reckoned from `now`.
    ///
    /// # Errors
    /// [`StoreError`] when they make no sense.
    pub fn contacts(&self, now: Now) -> Result<Vec<Binding>, StoreError> {
        contacts::decode(&self.contacts, now)
            .map_err(|error| At { table: "bindings_log", row: &self.device.to_string() }.corrupt("body", &error))
    }
}

impl Store {
    /// Reads all that lives in memory.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read or a row makes no sense.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        // Nearly all of a large database is in these two, so they are read side by side.
        let (store, other) = (self.clone(), self.clone());
        let devices = aside(async move { store.all::<DeviceRow>("SELECT * FROM devices").await });
        let bindings = aside(async move { other.bindings().await });
        let mut loaded = Loaded {
            accounts: self.all::<AccountRow>("SELECT * FROM accounts").await?,
            sites: self.all::<SiteRow>("SELECT * FROM sites").await?,
            pbxs: self.all::<PbxRow>("SELECT * FROM pbxs").await?,
            users: self.all::<UserRow>("SELECT * FROM users").await?,
            queues: self.all::<QueueRow>("SELECT * FROM queues").await?,
            tokens: self.all::<TokenRow>("SELECT * FROM tokens").await?,
            secrets: self.secrets().await?,
            links: self.all::<LinkRow>("SELECT * FROM links WHERE ended_at IS NULL").await?,
            calls: self.calls().await?,
            seq: self.highest().await?,
            ..Loaded::default()
        };
        loaded.devices = devices.await?;
        let highest;
        (loaded.bindings, loaded.log, highest) = bindings.await?;
        // Of these two no table is asked: all their rows were read.
        let of_devices = loaded.devices.iter().map(|device| device.seq).max().unwrap_or_default();
        loaded.seq = loaded.seq.max(highest).max(of_devices);
        Ok(loaded)
    }

    /// Reads the log from its end, so that the first line met of a device is the one that counts. Answers also where it ends,
    /// and the highest number in it.
    async fn bindings(&self) -> Result<(Vec<LoadedBindings>, Log, Seq), StoreError> {
        let (mut found, mut met, mut log, mut highest) = (Vec::new(), Met::default(), Log::default(), Seq(0));
        self.each("SELECT id, body FROM bindings_log ORDER BY id DESC", |(id, body): (i64, String)| {
            let commit = log::commit_of(id);
            for line in log::lines(id, &body).rev() {
                let line = line?;
                log.found(commit, line.device);
                highest = highest.max(line.seq);
                if !met.insert(line.device) || line.contacts == "[]" {
                    continue;
                }
                found.push(LoadedBindings {
                    device: line.device,
                    contacts: line.contacts.into(),
                    seq: line.seq,
                    commit,
                });
            }
            Ok(())
        })
        .await?;
        Ok((found, log, highest))
    }

    /// A call that can't be read is over for us, but no reason not to start.
    async fn calls(&self) -> Result<Vec<(Call, u32)>, StoreError> {
        // Read here, at start: whoever goes on with the calls must not wait for a database.
        let trails = self.each(TRAILS, |(call, last): (String, i64)| Ok((call, last))).await?;
        let trails: HashMap<String, i64> = trails.into_iter().collect();
        let calls = self
            .each(CALLS, |row: CallRow| {
                Ok(row.into_record().inspect_err(|error| tracing::error!(%error, "a living call is left out")).ok())
            })
            .await?;
        let last = |call: &Call| trails.get(&call.id.to_string()).and_then(|last| u32::try_from(*last).ok());
        Ok(calls
            .into_iter()
            .flatten()
            .map(|call| {
                let last = last(&call).unwrap_or(0);
                (call, last)
            })
            .collect())
    }

    async fn highest(&self) -> Result<Seq, StoreError> {
        let highest = self.each(HIGHEST, |(number,): (i64,)| Ok(seq(number))).await?;
        Ok(highest.into_iter().max().unwrap_or_default())
    }

    async fn all<R>(&self, sql: &'static str) -> Result<Vec<R::Record>, StoreError>
    where
        R: Readable + for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.each(sql, R::into_record).await
    }

    /// Row by row, so that no table is in memory twice.
    pub(super) async fn each<R, T>(
        &self,
        sql: &'static str,
        mut read: impl FnMut(R) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError>
    where
        R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut found = Vec::new();
        match &self.engine {
            Engine::Sqlite(sqlite) => {
                let mut rows = sqlx::query_as::<_, R>(sql).fetch(&sqlite.pool);
                while let Some(row) = rows.try_next().await? {
                    found.push(read(row)?);
                }
            }
            Engine::Postgres(postgres) => {
                let mut connection = postgres.pool.acquire().await?;
                // A large table takes longer than a question about the past may.
                sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
                let mut rows = sqlx::query_as::<_, R>(sql).fetch(&mut *connection);
                while let Some(row) = rows.try_next().await? {
                    found.push(read(row)?);
                }
                drop(rows);
                // Back to what the pool promises: this one is not lent to anyone else.
                connection.close_on_drop();
            }
        }
        Ok(found)
    }
}

/// Starts it on a thread of its own; ends with whoever waits for it.
fn aside<T: Send + 'static>(
    read: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> impl Future<Output = Result<T, StoreError>> {
    let (runtime, stop) = (Handle::current(), CancellationToken::new());
    let stopped = stop.clone();
    let read = spawn_blocking(move || runtime.block_on(stopped.run_until_cancelled_owned(read)));
    let stop = stop.drop_guard();
    async move {
        let read = read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        drop(stop);
        read.unwrap_or_else(|| Err(StoreError::Unavailable("it was stopped".into())))
    }
}

/// Calls that had not ended, and the latest ones.
const CALLS: &str = "SELECT id, body FROM calls WHERE ended_at IS NULL \
    UNION SELECT id, body FROM (SELECT id, body FROM calls ORDER BY began_at DESC LIMIT 1000) AS latest";

const TRAILS: &str = "SELECT call_id, MAX(position) FROM trail
    WHERE call_id IN (SELECT id FROM calls WHERE ended_at IS NULL) GROUP BY call_id";

/// Each table's highest number. Those of deleted rows are in `journal`.
const HIGHEST: &str = "SELECT COALESCE(MAX(seq), 0) FROM accounts
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM sites
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM pbxs
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM users
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM queues
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM tokens
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM sealed_secrets
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM links
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM trail
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM transitions
    UNION ALL SELECT COALESCE(MAX(seq), 0) FROM journal";
