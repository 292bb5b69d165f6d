//! A year of calls, made by SQL from one that happened.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

/// How much there is to be.
pub struct Year {
    pub days: usize,
    pub calls_a_day: usize,
    /// Extension, device and user.
    pub phones: Vec<(String, String, String)>,
}

/// When they are.
pub struct Times {
    first: i64,
    apart: i64,
}

enum Side {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Year {
    pub fn calls(&self) -> usize {
        self.days * self.calls_a_day
    }

    /// Reasons are kept for a month by default; these are the latest calls.
    pub fn calls_with_trail(&self) -> usize {
        self.days.min(30) * self.calls_a_day
    }
}

impl Times {
    /// When a call began.
    pub fn at(&self, call: usize) -> i64 {
        self.first + self.apart * i64::try_from(call).unwrap_or(0)
    }
}

/// The id of a call by its number: as scattered as hashes are.
pub fn call_of(call: usize) -> String {
    let call = call as u64;
    format!("{:08x}-0000-8000-8000-{call:012x}", call.wrapping_mul(2_654_435_761) & 0xffff_ffff)
}

/// Makes them, a day at a time, up to the one call that is there. Every tenth thousand failed.
pub async fn fill(url: &str, year: &Year) -> Times {
    let mut side = Side::open(url).await;
    let (id, body) = side.pair("SELECT id, body FROM calls WHERE ended_at IS NOT NULL LIMIT 1").await;
    let call: serde_json::Value = serde_json::from_str(&body).expect("a call");
    let last = call["began_at"].as_i64().expect("it began");
    let apart = 86_400_000 / i64::try_from(year.calls_a_day).expect("some thousand");
    let times = Times { first: last - apart * i64::try_from(year.calls()).expect("some million"), apart };
    let (_, device, user) = &year.phones[0];
    side.run("CREATE TEMP TABLE phones (k BIGINT PRIMARY KEY, device TEXT, user_id TEXT)").await;
    for (k, (_, device, user)) in year.phones.iter().enumerate() {
        side.run(&format!("INSERT INTO phones VALUES ({k}, '{device}', '{user}')")).await;
    }
    for day in 0..year.days {
        let (from, to) = (day * year.calls_a_day, (day + 1) * year.calls_a_day - 1);
        let calls = side.calls(from, to, &times, year.phones.len());
        side.run("BEGIN").await;
        side.run(&format!(
            "INSERT INTO calls (id, account, began_at, ended_at, direction, outcome, body)
             SELECT c.id, t.account, c.began_at, c.began_at + 30000, t.direction,
                    CASE WHEN c.n % 10000 = 0 THEN 'failed' ELSE t.outcome END,
                    replace(replace(replace(replace(t.body, '{id}', c.id), '{device}', c.device), '{user}', c.user_id),
                            '{last}', CAST(c.began_at AS TEXT))
             FROM ({calls}) AS c, calls AS t WHERE t.id = '{id}'"
        ))
        .await;
        side.run(&format!(
            "INSERT INTO call_users (user_id, began_at, call_id) SELECT user_id, began_at, id FROM ({calls}) AS c"
        ))
        .await;
        side.run(&format!(
            "INSERT INTO call_devices (device, began_at, call_id) SELECT device, began_at, id FROM ({calls}) AS c"
        ))
        .await;
        if from >= year.calls() - year.calls_with_trail() {
            side.run(&format!(
                "INSERT INTO trail (seq, call_id, position, at, user_id, reason, device, queue, sessions, event)
                 SELECT 1000000000 + c.n * 100 + t.position, c.id, t.position, c.began_at, c.user_id, t.reason, c.device,
                        t.queue, t.sessions, t.event
                 FROM ({calls}) AS c, trail AS t WHERE t.call_id = '{id}'"
            ))
            .await;
        }
        // Each phone comes and goes once a day.
        side.run(&format!(
            "INSERT INTO transitions (seq, device, at, kind, cause)
             SELECT 100000000 + {day} * 100000 + p.k * 2 + e.n, p.device, {} + e.n * 30000000 + p.k,
                    CASE WHEN e.n = 0 THEN 'up' ELSE 'down' END, 'REGISTER'
             FROM phones AS p, (SELECT 0 AS n UNION ALL SELECT 1) AS e",
            times.at(from)
        ))
        .await;
        side.run("COMMIT").await;
    }
    side.close().await;
    times
}

impl Side {
    async fn open(url: &str) -> Self {
        if !url.starts_with("sqlite:") {
            return Self::Postgres(PgConnection::connect(url).await.expect("a connection"));
        }
        let mut side = Self::Sqlite(SqliteConnection::connect(url).await.expect("a connection"));
        side.run("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000").await;
        side
    }

    /// A query for calls by number: n, id, `began_at`, device, `user_id`.
    fn calls(&self, from: usize, to: usize, times: &Times, phones: usize) -> String {
        let id = match self {
            Self::Sqlite(_) => "printf('%08x-0000-8000-8000-%012x', (n * 2654435761) & 4294967295, n)",
            Self::Postgres(_) => {
                "lpad(to_hex((n * 2654435761) & 4294967295), 8, '0') || '-0000-8000-8000-' || lpad(to_hex(n), 12, '0')"
            }
        };
        let Times { first, apart } = times;
        format!(
            "SELECT n, {id} AS id, {first} + {apart} * n AS began_at, device, user_id
             FROM (WITH RECURSIVE numbers(n) AS
                     (SELECT CAST({from} AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < {to}) SELECT n FROM numbers) AS s
             JOIN phones ON k = (n * 7919) % {phones}"
        )
    }

    async fn pair(&mut self, sql: &'static str) -> (String, String) {
        match self {
            Self::Sqlite(side) => sqlx::query_as(sql).fetch_one(side).await,
            Self::Postgres(side) => sqlx::query_as(sql).fetch_one(side).await,
        }
        .expect("there is one")
    }

    async fn run(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(side) => sql.execute(side).await.map(drop),
            Self::Postgres(side) => sql.execute(side).await.map(drop),
        }
        .expect("it runs");
    }

    /// Leaves it as a year of autovacuum would.
    async fn close(self) {
        match self {
            Self::Sqlite(side) => side.close().await.expect("it closes"),
            Self::Postgres(mut side) => {
                sqlx::raw_sql("VACUUM ANALYZE").execute(&mut side).await.expect("it runs");
            }
        }
    }
}
