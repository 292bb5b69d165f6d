//! SIP passwords of devices: sealed on their way into a row, opened on their way out of it.

use std::sync::{Arc, PoisonError};

use sqlx::{FromRow, SqliteConnection};

use super::batch::{Parameter, Step, array};
use super::cell::{At, json, seq};
use super::engine::Writer;
use super::statements::{PLAIN_SECRETS_GONE, upsert};
use super::writer::{write_postgres, write_sqlite};
use super::{Kind, Seq, Store, StoreError, Stored};
use crate::model::{AccountId, DeviceId, DeviceSecret, DigestAlgorithm, Ha1, UnixMillis};
use crate::sealing::{Keys, SealError};

/// A key that secrets are sealed with, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedWith {
    /// The key's id.
    pub key: String,
    /// Devices whose password it seals.
    pub devices: i64,
}

/// Why a secret can't be written: nothing is ever written in plain.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsealed {
    #[error("there is no key to seal it with")]
    NoKey,
    #[error(transparent)]
    System(#[from] SealError),
}

#[derive(FromRow)]
struct SecretRow {
    device: String,
    account: String,
    realm: String,
    key_id: String,
    md5: String,
    sha256: String,
    sha512_256: String,
    set_at: i64,
    seq: i64,
}

/// As it was before there were keys, with the account of its device.
#[derive(FromRow)]
struct PlainRow {
    device: String,
    account: Option<String>,
    realm: String,
    md5: String,
    sha256: String,
    sha512_256: String,
    set_at: i64,
    seq: i64,
}

impl Store {
    /// The keys that secrets are sealed with.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub async fn sealed_with(&self) -> Result<Vec<SealedWith>, StoreError> {
        let count = "SELECT key_id, COUNT(*) FROM sealed_secrets GROUP BY key_id ORDER BY key_id";
        self.each(count, |(key, devices): (String, i64)| Ok(SealedWith { key, devices })).await
    }

    /// Takes the keys that secrets are sealed with, before anything is [loaded](Self::load). What is in plain yet, or sealed
    /// with another key than the first, is sealed anew, so that afterwards the others are needed no more.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when something is sealed with none of them; else when the database can't be read or written.
    pub async fn unlock(mut self, keys: Keys) -> Result<Self, StoreError> {
        let sealed = self.sealed_with().await?;
        if let Some(SealedWith { key, devices }) = sealed.iter().find(|sealed| !keys.holds(&sealed.key)) {
            return Err(StoreError::Locked { key: key.clone(), devices: *devices });
        }
        let (plain, orphans) = self.plain_secrets().await?;
        let mut rows = plain;
        if sealed.iter().any(|sealed| sealed.key != keys.sealing()) {
            let read = |row: SecretRow| (row.key_id != keys.sealing()).then(|| row.open(&keys)).transpose();
            rows.extend(self.each("SELECT * FROM sealed_secrets", read).await?.into_iter().flatten());
        }
        if !rows.is_empty() || orphans > 0 {
            self.seal_anew(&rows, &keys).await?;
            tracing::info!(devices = rows.len(), key = keys.sealing(), "passwords of phones are sealed anew");
        }
        self.keys = Some(Arc::new(keys));
        Ok(self)
    }

    pub(super) async fn secrets(&self) -> Result<Vec<Stored<DeviceSecret>>, StoreError> {
        self.each("SELECT * FROM sealed_secrets", |row: SecretRow| match self.keys.as_deref() {
            Some(keys) => row.open(keys),
            None => Err(StoreError::Locked { key: row.key_id, devices: 1 }),
        })
        .await
    }

    /// Secrets that are not sealed, and how many more belong to no device.
    async fn plain_secrets(&self) -> Result<(Vec<Stored<DeviceSecret>>, usize), StoreError> {
        let found = self.each(PLAIN, PlainRow::read).await?;
        let all = found.len();
        let rows: Vec<_> = found.into_iter().flatten().collect();
        let orphans = all - rows.len();
        Ok((rows, orphans))
    }

    /// Writes `rows` sealed, and leaves none in plain, in one transaction.
    async fn seal_anew(&self, rows: &[Stored<DeviceSecret>], keys: &Keys) -> Result<(), StoreError> {
        let mut steps = Vec::new();
        for some in rows.chunks(ROWS_MAX) {
            let sealed: Result<Vec<String>, Unsealed> =
                some.iter().map(|row| secret_row(&row.value, row.seq, Some(keys))).collect();
            let sealed = sealed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
            steps.push(Step { statement: upsert(Kind::Secret), parameter: Parameter::Json(array(sealed.into_iter())) });
        }
        steps.push(Step { statement: PLAIN_SECRETS_GONE, parameter: Parameter::None });
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut writer = writer.ok_or_else(|| StoreError::Unavailable("the journal has its writer already".into()))?;
        match &mut writer {
            Writer::Sqlite(connection) => overwrite_sqlite(connection, &steps).await?,
            Writer::Postgres(connection) => write_postgres(connection, steps, None).await?,
        }
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(())
    }
}

/// `SQLite` leaves deleted rows where they were, and in its log, until it needs the room. What was in plain must go now.
async fn overwrite_sqlite(connection: &mut SqliteConnection, steps: &[Step]) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await?;
    write_sqlite(connection, steps, None).await?;
    sqlx::query("PRAGMA secure_delete = OFF").execute(&mut *connection).await?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await?;
    Ok(())
}

impl SecretRow {
    fn open(self, keys: &Keys) -> Result<Stored<DeviceSecret>, StoreError> {
        let at = At { table: "sealed_secrets", row: &self.device };
        let device = DeviceId(at.id("device", &self.device)?);
        let account = AccountId(at.id("account", &self.account)?);
        let open = |column, algorithm, text: &str| {
            let opened = keys.open(&self.key_id, &place(account, device, algorithm), text);
            opened.map_err(|error| at.corrupt(column, &error))
        };
        let length = |column| move |_| at.corrupt(column, &"it is not as long as its hash");
        let ha1 = Ha1 {
            md5: open("md5", DigestAlgorithm::Md5, &self.md5)?.try_into().map_err(length("md5"))?,
            sha256: open("sha256", DigestAlgorithm::Sha256, &self.sha256)?.try_into().map_err(length("sha256"))?,
            sha512_256: open("sha512_256", DigestAlgorithm::Sha512_256, &self.sha512_256)?
                .try_into()
                .map_err(length("sha512_256"))?,
        };
        let set_at = UnixMillis(self.set_at);
        let value = DeviceSecret { device, account, realm: self.realm.into(), ha1, set_at };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

impl PlainRow {
    /// None when its device is gone.
    fn read(self) -> Result<Option<Stored<DeviceSecret>>, StoreError> {
        let at = At { table: "secrets", row: &self.device };
        let Some(account) = at.optional_id("account", self.account.as_deref())? else {
            tracing::warn!(device = self.device, "a password without its device; it is deleted");
            return Ok(None);
        };
        let value = DeviceSecret {
            device: DeviceId(at.id("device", &self.device)?),
            account: AccountId(account),
            ha1: Ha1 {
                md5: at.bytes("md5", &self.md5)?,
                sha256: at.bytes("sha256", &self.sha256)?,
                sha512_256: at.bytes("sha512_256", &self.sha512_256)?,
            },
            realm: self.realm.into(),
            set_at: UnixMillis(self.set_at),
        };
        Ok(Some(Stored { value: value.into(), seq: seq(self.seq) }))
    }
}

/// The row as a JSON array.
pub(super) fn secret_row(secret: &DeviceSecret, seq: Seq, keys: Option<&Keys>) -> Result<String, Unsealed> {
    let keys = keys.ok_or(Unsealed::NoKey)?;
    let DeviceSecret { device, account, realm, ha1, set_at } = secret;
    let seal = |algorithm, hash: &[u8]| keys.seal(&place(*account, *device, algorithm), hash);
    let md5 = seal(DigestAlgorithm::Md5, &ha1.md5)?;
    let sha256 = seal(DigestAlgorithm::Sha256, &ha1.sha256)?;
    let sha512_256 = seal(DigestAlgorithm::Sha512_256, &ha1.sha512_256)?;
    Ok(json(&(device, account, realm, keys.sealing(), md5, sha256, sha512_256, set_at, seq)))
}

/// What is sealed along with a hash: no other table, account, device or column opens it.
fn place(account: AccountId, device: DeviceId, algorithm: DigestAlgorithm) -> Vec<u8> {
    [b"sealed_secrets", account.0.as_bytes().as_slice(), device.0.as_bytes(), algorithm.name().as_bytes()].concat()
}

const PLAIN: &str = "SELECT s.device, d.account, s.realm, s.md5, s.sha256, s.sha512_256, s.set_at, s.seq
    FROM secrets AS s LEFT JOIN devices AS d ON d.id = s.device";

/// Of one statement.
const ROWS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::sealing::Key;

    #[test]
    fn a_hash_opens_in_its_own_row_and_column_only() {
        let keys = Keys::new(Key::parse(&"1".repeat(64)).unwrap(), Vec::new());
        let id = |n| Uuid::from_u128(n);
        let secret = DeviceSecret {
            device: DeviceId(id(1)),
            account: AccountId(id(2)),
            realm: "office.example".into(),
            ha1: Ha1 { md5: [1; 16], sha256: [2; 32], sha512_256: [3; 32] },
            set_at: UnixMillis(4),
        };
        let text = secret_row(&secret, Seq(5), Some(&keys)).unwrap();
        let [device, account, realm, key_id, md5, sha256, sha512_256]: [String; 7] = {
            let row: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            row.iter().take(7).map(|cell| cell.as_str().unwrap().to_owned()).collect::<Vec<_>>().try_into().unwrap()
        };
        let row = |device: &str, account: &str, sha256: &str, sha512_256: &str| SecretRow {
            device: device.to_owned(),
            account: account.to_owned(),
            realm: realm.clone(),
            key_id: key_id.clone(),
            md5: md5.clone(),
            sha256: sha256.to_owned(),
            sha512_256: sha512_256.to_owned(),
            set_at: 4,
            seq: 5,
        };
        let opened = row(&device, &account, &sha256, &sha512_256).open(&keys).unwrap();
        assert_eq!((&*opened.value, opened.seq), (&secret, Seq(5)));
        let other = id(7).to_string();
        for (column, moved) in [
            ("md5", row(&other, &account, &sha256, &sha512_256)),
            ("md5", row(&device, &other, &sha256, &sha512_256)),
            ("sha256", row(&device, &account, &sha512_256, &sha256)),
        ] {
            let shown = moved.device.clone();
            let error = moved.open(&keys).unwrap_err().to_string();
            let expected = format!("corrupt row: table sealed_secrets, column {column}, row {shown}: it was changed");
            assert!(error.starts_with(&expected), "{error}");
        }
        assert!(matches!(secret_row(&secret, Seq(5), None), Err(Unsealed::NoKey)), "never in plain");
    }
}
