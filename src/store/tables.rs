//! All tables and their columns, for what treats them alike.

use sha2::{Digest as _, Sha256};
use sqlx::{ColumnIndex, Decode, Row, Type};

/// A table, its columns by type.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) texts: &'static [&'static str],
    pub(super) numbers: &'static [&'static str],
    pub(super) flags: &'static [&'static str],
}

macro_rules! tables {
    ($($table:ident { $($text:ident)*; $($number:ident)*; $($flag:ident)* })*) => {
        &[$(Table {
            name: stringify!($table),
            texts: &[$(stringify!($text)),*],
            numbers: &[$(stringify!($number)),*],
            flags: &[$(stringify!($flag)),*],
        }),*]
    };
}

/// TEXT; BIGINT; BOOLEAN columns. What others refer to comes before them.
pub(super) const TABLES: &[Table] = tables! {
    accounts { id parent name domains number_plan settings; created_at seq; }
    sites { id account name; created_at seq; }
    pbxs {
        id account site name domain aliases networks queue_rules;
        passive_expires_max_s passive_grace_s created_at seq;
        any_domain control
    }
    users { id account email name pop_on queues queue_login parked; created_at seq; enabled dnd }
    queues { id account pbx name number members; absent_since created_at seq; reported }
    tokens { id account scope user_id pbx label hash; created_at expires_at seq; }
    devices {
        id account pbx user_part extension label caller_id last_caller;
        last_seen_at created_at seq;
        enabled assignable
    }
    bindings_log { body; id; }
    secrets { device realm md5 sha256 sha512_256; set_at seq; }
    sealed_secrets { device account realm key_id md5 sha256 sha512_256; set_at seq; }
    links { id account device user_id; began_at ended_at seq; }
    calls { id account direction outcome body; began_at ended_at; }
    call_users { user_id call_id; began_at; }
    call_devices { device call_id; began_at; }
    trail { call_id user_id reason device queue event; seq position at sessions; }
    transitions { device kind contact address user_agent cause; seq at; }
    journal { ; id seq; }
};

/// The one table that has a row from the start.
pub(super) const JOURNAL: &str = "journal";

/// A row, its cells in the order of [`Table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    texts: Vec<Option<String>>,
    numbers: Vec<Option<i64>>,
    flags: Vec<Option<bool>>,
}

/// How many rows, and a sum over them that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) sum: u128,
}

impl Table {
    fn columns(&self) -> String {
        [self.texts, self.numbers, self.flags].concat().join(", ")
    }

    /// Reads all of it.
    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.columns(), self.name)
    }

    /// Writes rows that come as one parameter, a JSON array of arrays; `rows` takes that apart.
    pub(super) fn insert(&self, rows: &str) -> String {
        let (texts, numbers) = (self.texts.len(), self.numbers.len());
        let columns = (0..texts + numbers + self.flags.len()).map(|at| match at {
            at if at < texts => format!("r.value->>{at}"),
            at if at < texts + numbers => format!("CAST(r.value->>{at} AS BIGINT)"),
            at => format!("CAST(r.value->>{at} AS BOOLEAN)"),
        });
        let columns: Vec<String> = columns.collect();
        format!("INSERT INTO {} ({}) SELECT {} FROM {rows}", self.name, self.columns(), columns.join(", "))
    }

    /// Whether it holds anything that was not there from the start.
    pub(super) fn is_filled(&self) -> String {
        let but = if self.name == JOURNAL { " WHERE seq > 0" } else { "" };
        format!("SELECT EXISTS (SELECT 1 FROM {}{but})", self.name)
    }

    /// How many rows it has.
    pub(super) fn count(&self) -> String {
        format!("SELECT COUNT(*) FROM {}", self.name)
    }
}

impl Cells {
    /// Takes apart what [`Table::select`] reads.
    pub(super) fn read<'r, R>(table: &Table, row: &'r R) -> Result<Self, sqlx::Error>
    where
        R: Row,
        usize: ColumnIndex<R>,
        Option<String>: Decode<'r, R::Database> + Type<R::Database>,
        Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
        Option<bool>: Decode<'r, R::Database> + Type<R::Database>,
    {
        let (texts, numbers) = (table.texts.len(), table.texts.len() + table.numbers.len());
        Ok(Self {
            texts: (0..texts).map(|at| row.try_get(at)).collect::<Result<_, _>>()?,
            numbers: (texts..numbers).map(|at| row.try_get(at)).collect::<Result<_, _>>()?,
            flags: (numbers..numbers + table.flags.len()).map(|at| row.try_get(at)).collect::<Result<_, _>>()?,
        })
    }

    /// As a JSON array, as [`Table::insert`] wants it.
    pub(super) fn json(&self) -> String {
        let texts = self.texts.iter().map(super::cell::json);
        let numbers = self.numbers.iter().map(super::cell::json);
        let all: Vec<String> = texts.chain(numbers).chain(self.flags.iter().map(super::cell::json)).collect();
        format!("[{}]", all.join(","))
    }

    /// 128 bits of a hash in which no two rows are written alike.
    fn hash(&self) -> u128 {
        let mut hash = Sha256::new();
        for text in &self.texts {
            match text {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        let flags = self.flags.iter().map(|flag| flag.map(i64::from));
        for number in self.numbers.iter().copied().chain(flags) {
            match number {
                None => hash.update([0]),
                Some(number) => {
                    hash.update([2]);
                    hash.update(number.to_be_bytes());
                }
            }
        }
        let mut first = [0; 16];
        first.iter_mut().zip(hash.finalize()).for_each(|(to, byte)| *to = byte);
        u128::from_be_bytes(first)
    }
}

impl Sum {
    /// Adds a row.
    pub(super) fn add(&mut self, row: &Cells) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(row.hash());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sqlx::{Connection as _, SqliteConnection};

    use super::super::engine::Writer;
    use super::super::schema;
    use super::*;

    #[tokio::test]
    async fn these_are_all_tables_and_all_columns() {
        let mut writer = Writer::Sqlite(SqliteConnection::connect("sqlite::memory:").await.unwrap());
        schema::migrate(&mut writer).await.unwrap();
        let Writer::Sqlite(connection) = &mut writer else { unreachable!("it was made above") };
        let found: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name <> '_sqlx_migrations' AND t.name NOT LIKE 'sqlite_%'",
        )
        .fetch_all(connection)
        .await
        .unwrap();
        let found: BTreeMap<(String, String), String> =
            found.into_iter().map(|(table, column, kind)| ((table, column), kind)).collect();
        let known = TABLES.iter().flat_map(|table| {
            let of = |columns: &'static [&'static str], kind: &'static str| {
                columns.iter().map(move |column| ((table.name.to_owned(), (*column).to_owned()), kind.to_owned()))
            };
            of(table.texts, "TEXT").chain(of(table.numbers, "BIGINT")).chain(of(table.flags, "BOOLEAN"))
        });
        assert_eq!(known.collect::<BTreeMap<_, _>>(), found);
    }

    #[test]
    fn a_sum_tells_rows_apart_and_not_their_order() {
        let row = |a: Option<&str>, b: Option<&str>, n: Option<i64>, flag: Option<bool>| Cells {
            texts: vec![a.map(Into::into), b.map(Into::into)],
            numbers: vec![n],
            flags: vec![flag],
        };
        let sum = |rows: &[&Cells]| {
            let mut sum = Sum::default();
            for row in rows {
                sum.add(row);
            }
            sum
        };
        let one = row(Some("ab"), Some("c"), Some(1), Some(true));
        let others = [
            row(Some("a"), Some("bc"), Some(1), Some(true)),
            row(Some("ab"), None, Some(1), Some(true)),
            row(Some("ab"), Some(""), Some(1), Some(true)),
            row(Some("ab"), Some("c"), Some(2), Some(true)),
            row(Some("ab"), Some("c"), None, Some(true)),
            row(Some("ab"), Some("c"), Some(1), None),
            row(Some("ab"), Some("c"), Some(1), Some(false)),
        ];
        for other in &others {
            assert_ne!(sum(&[&one]), sum(&[other]), "{other:?}");
            assert_eq!(sum(&[&one, other]), sum(&[other, &one]));
        }
        assert_ne!(sum(&[&one, &one]), sum(&[&others[0], &others[0]]));
    }
}
