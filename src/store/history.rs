//! Questions about the past, answered by the database.

use std::sync::Arc;

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::cell::{At, Readable, word};
use super::engine::Engine;
use super::past::{CallRow, TrailRow, TransitionRow};
use super::records::LinkRow;
use super::statements::Statement;
use super::{Store, StoreError};
use crate::model::{
    AccountId, Call, CallId, DeviceId, Direction, Link, Outcome, TrailEntry, Transition, TransitionKind, UnixMillis,
    UserId,
};

/// One page of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Where the next page starts; none when this was the last.
    pub next: Option<String>,
}

/// Which calls a listing wants; unset = any.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// The user had to do with it.
    pub user: Option<UserId>,
    /// One of its legs was this device's.
    pub device: Option<DeviceId>,
    /// It went this way.
    pub direction: Option<Direction>,
    /// It ended so.
    pub outcome: Option<Outcome>,
    /// It began at or after this.
    pub since: Option<UnixMillis>,
    /// It began before this.
    pub until: Option<UnixMillis>,
}

/// Whose links a listing wants.
#[derive(Clone, Copy, Debug)]
pub enum LinksOf {
    /// A device's.
    Device(DeviceId),
    /// A user's.
    User(UserId),
}

/// The query with its parameters, for whichever engine it is then run on.
macro_rules! bound {
    ($sql:expr, $question:expr) => {{
        let mut query = sqlx::query_as($sql);
        for value in $question {
            query = match value {
                Value::Text(text) => query.bind(text.clone()),
                Value::Optional(text) => query.bind(text.clone()),
                Value::Number(number) => query.bind(*number),
            };
        }
        query
    }};
}

impl Store {
    /// The account's calls, newest first, from after `cursor`.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn calls_page(
        &self,
        account: AccountId,
        filter: &CallFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Call>, StoreError> {
        let (before, before_id) = place(cursor)?;
        // Whose calls: the table whose key starts with it. A second condition looks into the other.
        let (sql, of, and_device) = match (filter.user, filter.device) {
            (Some(user), device) => (CALLS_OF_USER, user.0.to_string(), device),
            (None, Some(device)) => (CALLS_OF_DEVICE, device.0.to_string(), None),
            // What is asked for may be rare among all calls of an account: an index for each.
            (None, None) if filter.outcome.is_some() => (self.of_engine(CALLS_OF_OUTCOME), account.0.to_string(), None),
            (None, None) if filter.direction.is_some() => {
                (self.of_engine(CALLS_OF_DIRECTION), account.0.to_string(), None)
            }
            (None, None) => (CALLS_OF_ACCOUNT, account.0.to_string(), None),
        };
        let question = [
            Value::Text(of),
            Value::Text(account.0.to_string()),
            Value::Optional(filter.direction.and_then(|direction| word(&direction))),
            Value::Optional(filter.outcome.and_then(|outcome| word(&outcome))),
            Value::Number(filter.since.map_or(i64::MIN, |since| since.0)),
            // The page's own place as well: an index is entered there, not at the newest call.
            Value::Number(filter.until.map_or(i64::MAX, |until| until.0).min(before.saturating_add(1))),
            Value::Number(before),
            Value::Text(before_id),
            Value::Optional(and_device.map(|device| device.0.to_string())),
            Value::Number(fetched(limit)),
        ];
        let calls: Vec<CallRow> = self.ask(sql, &question).await?;
        page(calls, limit, |call: &Call| format!("{}~{}", call.began_at.0, call.id))
    }

    /// One call.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn call(&self, id: CallId) -> Result<Option<Call>, StoreError> {
        let question = [Value::Text(id.to_string())];
        let mut calls: Vec<CallRow> = self.ask("SELECT id, body FROM calls WHERE id = $1", &question).await?;
        calls.pop().map(Readable::into_record).transpose()
    }

    /// Why who got or did not get a call's popup, in the order it was decided.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn trail(&self, call: CallId) -> Result<Vec<TrailEntry>, StoreError> {
        let question = [Value::Text(call.to_string()), Value::Number(TRAIL_MAX)];
        let rows: Vec<TrailRow> =
            self.ask("SELECT * FROM trail WHERE call_id = $1 ORDER BY position, seq LIMIT $2", &question).await?;
        rows.into_iter().map(Readable::into_record).collect()
    }

    /// A device's ups and downs, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn transitions(
        &self,
        device: DeviceId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Transition>, StoreError> {
        let before = cursor.map_or(Ok(i64::MAX), str::parse).map_err(|_| StoreError::Cursor)?;
        let question = [Value::Text(device.to_string()), Value::Number(before), Value::Number(fetched(limit))];
        let mut rows: Vec<TransitionRow> = self
            .ask("SELECT * FROM transitions WHERE device = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3", &question)
            .await?;
        let more = rows.len() > page_size(limit);
        rows.truncate(page_size(limit));
        let next = rows.last().filter(|_| more).map(|row| row.seq.to_string());
        let items = rows.into_iter().map(Readable::into_record).collect::<Result<_, _>>()?;
        Ok(HistoryPage { items, next })
    }

    /// How often what happened to a device since then.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn transitions_since(
        &self,
        device: DeviceId,
        since: UnixMillis,
    ) -> Result<Vec<(TransitionKind, u32)>, StoreError> {
        let question = [Value::Text(device.to_string()), Value::Number(since.0)];
        let rows: Vec<(String, i64)> = self.ask(TRANSITIONS_SINCE, &question).await?;
        let at = At { table: "transitions", row: "kind" };
        rows.into_iter().map(|(kind, count)| Ok((at.word("kind", &kind)?, at.number("count", count)?))).collect()
    }

    /// Links of a device or a user, ended ones too, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer, or the cursor is none of ours.
    pub async fn links_page(
        &self,
        of: LinksOf,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<HistoryPage<Link>, StoreError> {
        let (before, before_id) = place(cursor)?;
        let (sql, id) = match of {
            LinksOf::Device(device) => (LINKS_OF_DEVICE, device.to_string()),
            LinksOf::User(user) => (LINKS_OF_USER, user.to_string()),
        };
        let question = [Value::Text(id), Value::Number(before), Value::Text(before_id), Value::Number(fetched(limit))];
        let links: Vec<LinkRow> = self.ask(sql, &question).await?;
        let page = page(links, limit, |link| format!("{}~{}", link.value.began_at.0, link.value.id))?;
        Ok(HistoryPage {
            items: page.items.into_iter().map(|link| Arc::unwrap_or_clone(link.value)).collect(),
            next: page.next,
        })
    }

    /// The device's links that lasted at `at`.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't answer.
    pub async fn links_at(&self, device: DeviceId, at: UnixMillis) -> Result<Vec<Link>, StoreError> {
        let question = [Value::Text(device.to_string()), Value::Number(at.0)];
        let links: Vec<LinkRow> = self.ask(LINKS_AT, &question).await?;
        links.into_iter().map(|link| link.into_record().map(|link| Arc::unwrap_or_clone(link.value))).collect()
    }

    fn of_engine(&self, question: Statement) -> &'static str {
        match &self.engine {
            Engine::Sqlite(_) => question.sqlite,
            Engine::Postgres(_) => question.postgres,
        }
    }

    async fn ask<R>(&self, sql: &'static str, question: &[Value]) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let answer = async {
            match &self.engine {
                Engine::Sqlite(sqlite) => bound!(sql, question).fetch_all(&sqlite.pool).await,
                Engine::Postgres(postgres) => bound!(sql, question).fetch_all(&postgres.pool).await,
            }
        };
        match tokio::time::timeout(self.timeouts.read, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Unavailable("no answer in time".into())),
        }
    }
}

/// A parameter.
#[derive(Debug)]
enum Value {
    Text(String),
    Optional(Option<String>),
    Number(i64),
}

/// Cuts off the entry that only says there is another page.
fn page<R: Readable>(
    mut rows: Vec<R>,
    limit: u32,
    place_of: impl Fn(&R::Record) -> String,
) -> Result<HistoryPage<R::Record>, StoreError> {
    let more = rows.len() > page_size(limit);
    rows.truncate(page_size(limit));
    let items: Vec<R::Record> = rows.into_iter().map(Readable::into_record).collect::<Result<_, _>>()?;
    let next = items.last().filter(|_| more).map(place_of);
    Ok(HistoryPage { items, next })
}

/// Where a page starts: before this time, and at this time before this id.
fn place(cursor: Option<&str>) -> Result<(i64, String), StoreError> {
    let Some(cursor) = cursor else { return Ok((i64::MAX, String::new())) };
    let (at, id) = cursor.split_once('~').ok_or(StoreError::Cursor)?;
    let id = uuid::Uuid::try_parse(id).map_err(|_| StoreError::Cursor)?;
    Ok((at.parse().map_err(|_| StoreError::Cursor)?, id.to_string()))
}

fn page_size(limit: u32) -> usize {
    limit.clamp(1, PAGE_MAX) as usize
}

fn fetched(limit: u32) -> i64 {
    i64::from(limit.clamp(1, PAGE_MAX)) + 1
}

// `$6` is where the index is entered. The signs keep SQLite from entering it at `$7`, which without a cursor is its end: all
// calls after `until` would be looked at.
macro_rules! calls {
    ($from:literal, $of:literal, $key:literal) => {
        concat!(
            "SELECT c.id, c.body FROM ",
            $from,
            " WHERE ",
            $of,
            " = $1 AND c.account = $2
               AND (CAST($3 AS TEXT) IS NULL OR c.direction = $3) AND (CAST($4 AS TEXT) IS NULL OR c.outcome = $4)
               AND ",
            $key,
            ".began_at >= $5 AND ",
            $key,
            ".began_at < $6 AND (+",
            $key,
            ".began_at < $7 OR +",
            $key,
            ".began_at = $7 AND c.id < $8)
               AND (CAST($9 AS TEXT) IS NULL
                    OR EXISTS (SELECT 1 FROM call_devices d
                               WHERE d.device = $9 AND d.began_at = ",
            $key,
            ".began_at AND d.call_id = c.id))
             ORDER BY ",
            $key,
            ".began_at DESC, c.id DESC LIMIT $10"
        )
    };
}

const CALLS_OF_ACCOUNT: &str = calls!("calls c", "c.account", "c");
/// `SQLite` knows nothing of how often a value is there, and would go through all calls of the account.
const CALLS_OF_OUTCOME: Statement = Statement {
    sqlite: calls!("calls c INDEXED BY calls_by_outcome", "c.outcome = $4 AND c.account", "c"),
    postgres: calls!("calls c", "c.outcome = $4 AND c.account", "c"),
};
const CALLS_OF_DIRECTION: Statement = Statement {
    sqlite: calls!("calls c INDEXED BY calls_by_direction", "c.direction = $3 AND c.account", "c"),
    postgres: calls!("calls c", "c.direction = $3 AND c.account", "c"),
};
const CALLS_OF_USER: &str = calls!("call_users p JOIN calls c ON c.id = p.call_id", "p.user_id", "p");
const CALLS_OF_DEVICE: &str = calls!("call_devices p JOIN calls c ON c.id = p.call_id", "p.device", "p");

const TRANSITIONS_SINCE: &str = "SELECT kind, COUNT(*) FROM transitions WHERE device = $1 AND at >= $2 GROUP BY kind";

const LINKS_OF_DEVICE: &str = "SELECT * FROM links WHERE device = $1 AND (began_at, id) < ($2, $3)
    ORDER BY began_at DESC, id DESC LIMIT $4";
const LINKS_OF_USER: &str = "SELECT * FROM links WHERE user_id = $1 AND (began_at, id) < ($2, $3)
    ORDER BY began_at DESC, id DESC LIMIT $4";
const LINKS_AT: &str = "SELECT * FROM links
    WHERE device = $1 AND began_at <= $2 AND (ended_at IS NULL OR ended_at > $2) ORDER BY began_at, id";

/// Most entries on a page.
const PAGE_MAX: u32 = 1_000;

/// Most reasons read for one call.
const TRAIL_MAX: i64 = 10_000;
