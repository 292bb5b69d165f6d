//! The statements that write. Many rows travel as one parameter: a JSON array of arrays, or for the log of bindings on
//! Postgres arrays of columns. Both engines share the text but for how that parameter is taken apart.

use super::Kind;

/// One statement, in the words of each engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// `r.value` is one row, itself an array; `r.value->>0` its first column.
macro_rules! rows {
    ($insert:literal, $conflict:literal) => {
        Statement {
            sqlite: concat!($insert, " FROM json_each($1) AS r WHERE true ON CONFLICT ", $conflict),
            postgres: concat!(
                $insert,
                " FROM jsonb_array_elements(CAST($1 AS jsonb)) AS r(value) WHERE true ON CONFLICT ",
                $conflict
            ),
        }
    };
}

/// The parameter is an array of keys.
macro_rules! delete {
    ($table:literal, $key:literal) => {
        Statement {
            sqlite: concat!("DELETE FROM ", $table, " WHERE ", $key, " IN (SELECT value FROM json_each($1))"),
            postgres: concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $key,
                " IN (SELECT jsonb_array_elements_text(CAST($1 AS jsonb)))"
            ),
        }
    };
}

/// Writes rows of a table, new and known ones alike.
pub(super) fn upsert(kind: Kind) -> Statement {
    match kind {
        Kind::Account => ACCOUNTS,
        Kind::Site => SITES,
        Kind::Pbx => PBXS,
        Kind::User => USERS,
        Kind::Queue => QUEUES,
        Kind::Token => TOKENS,
        Kind::Device => DEVICES,
        Kind::Bindings => APPEND,
        Kind::Secret => SECRETS,
        Kind::Link => LINKS,
    }
}

/// Deletes rows of a table.
pub(super) fn delete(kind: Kind) -> Statement {
    match kind {
        Kind::Account => delete!("accounts", "id"),
        Kind::Site => delete!("sites", "id"),
        Kind::Pbx => delete!("pbxs", "id"),
        Kind::User => delete!("users", "id"),
        Kind::Queue => delete!("queues", "id"),
        Kind::Token => delete!("tokens", "id"),
        Kind::Device => delete!("devices", "id"),
        // A line says that there are none.
        Kind::Bindings => APPEND,
        Kind::Secret => delete!("sealed_secrets", "device"),
        Kind::Link => delete!("links", "id"),
    }
}

/// Empties the table of secrets that were not sealed.
pub(super) const PLAIN_SECRETS_GONE: Statement =
    Statement { sqlite: "DELETE FROM secrets", postgres: "TRUNCATE secrets" };

/// Remembers a number that no row may be left to tell.
pub(super) const REMEMBER: &str = "UPDATE journal SET seq = $1 WHERE id = 1 AND seq < $1";

const ACCOUNTS: Statement = rows!(
    "INSERT INTO accounts (id, parent, name, domains, number_plan, settings, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5,
            CAST(r.value->>6 AS BIGINT), CAST(r.value->>7 AS BIGINT)",
    "(id) DO UPDATE SET parent = excluded.parent, name = excluded.name, domains = excluded.domains,
         number_plan = excluded.number_plan, settings = excluded.settings, seq = excluded.seq"
);

const SITES: Statement = rows!(
    "INSERT INTO sites (id, account, name, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, CAST(r.value->>3 AS BIGINT), CAST(r.value->>4 AS BIGINT)",
    "(id) DO UPDATE SET name = excluded.name, seq = excluded.seq"
);

const PBXS: Statement = rows!(
    "INSERT INTO pbxs (id, account, site, name, domain, aliases, any_domain, networks, passive_expires_max_s,
                       passive_grace_s, queue_rules, control, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5,
            CAST(r.value->>6 AS BOOLEAN), r.value->>7, CAST(r.value->>8 AS BIGINT), CAST(r.value->>9 AS BIGINT),
            r.value->>10, CAST(r.value->>11 AS BOOLEAN), CAST(r.value->>12 AS BIGINT), CAST(r.value->>13 AS BIGINT)",
    "(id) DO UPDATE SET site = excluded.site, name = excluded.name, domain = excluded.domain,
         aliases = excluded.aliases, any_domain = excluded.any_domain, networks = excluded.networks,
         passive_expires_max_s = excluded.passive_expires_max_s, passive_grace_s = excluded.passive_grace_s,
         queue_rules = excluded.queue_rules, control = excluded.control, seq = excluded.seq"
);

const USERS: Statement = rows!(
    "INSERT INTO users (id, account, email, name, enabled, dnd, pop_on, queues, queue_login, parked, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, CAST(r.value->>4 AS BOOLEAN),
            CAST(r.value->>5 AS BOOLEAN), r.value->>6, r.value->>7, r.value->>8, r.value->>9,
            CAST(r.value->>10 AS BIGINT), CAST(r.value->>11 AS BIGINT)",
    "(id) DO UPDATE SET email = excluded.email, name = excluded.name, enabled = excluded.enabled, dnd = excluded.dnd,
         pop_on = excluded.pop_on, queues = excluded.queues, queue_login = excluded.queue_login,
         parked = excluded.parked, seq = excluded.seq"
);

const QUEUES: Statement = rows!(
    "INSERT INTO queues (id, account, pbx, name, number, members, reported, absent_since, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5,
            CAST(r.value->>6 AS BOOLEAN), CAST(r.value->>7 AS BIGINT), CAST(r.value->>8 AS BIGINT),
            CAST(r.value->>9 AS BIGINT)",
    "(id) DO UPDATE SET pbx = excluded.pbx, name = excluded.name, number = excluded.number,
         members = excluded.members, reported = excluded.reported, absent_since = excluded.absent_since,
         seq = excluded.seq"
);

const TOKENS: Statement = rows!(
    "INSERT INTO tokens (id, account, scope, user_id, pbx, label, hash, created_at, expires_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5, r.value->>6,
            CAST(r.value->>7 AS BIGINT), CAST(r.value->>8 AS BIGINT), CAST(r.value->>9 AS BIGINT)",
    "(id) DO UPDATE SET scope = excluded.scope, user_id = excluded.user_id, pbx = excluded.pbx,
         label = excluded.label, hash = excluded.hash, expires_at = excluded.expires_at, seq = excluded.seq"
);

const DEVICES: Statement = rows!(
    "INSERT INTO devices (id, account, pbx, user_part, extension, label, caller_id, enabled, assignable, last_caller,
                          last_seen_at, created_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5, r.value->>6,
            CAST(r.value->>7 AS BOOLEAN), CAST(r.value->>8 AS BOOLEAN), r.value->>9, CAST(r.value->>10 AS BIGINT),
            CAST(r.value->>11 AS BIGINT), CAST(r.value->>12 AS BIGINT)",
    "(id) DO UPDATE SET extension = excluded.extension, label = excluded.label, caller_id = excluded.caller_id,
         enabled = excluded.enabled, assignable = excluded.assignable, last_caller = excluded.last_caller,
         last_seen_at = excluded.last_seen_at, created_at = excluded.created_at, seq = excluded.seq"
);

/// The one hot statement: rows of the log as arrays on Postgres, which costs it half of what JSON does, and one at a time on
/// `SQLite`, where there is only one.
pub(super) const APPEND: Statement = Statement {
    sqlite: "INSERT INTO bindings_log (id, body) VALUES ($1, $2)",
    postgres: "INSERT INTO bindings_log (id, body) SELECT * FROM UNNEST($1::bigint[], $2::text[])",
};

/// The oldest rows of the log, up to an id. What was deleted before is passed over, for on Postgres it is in the index until
/// somebody tidies that up.
pub(super) const FORGET: Statement = Statement {
    sqlite: "DELETE FROM bindings_log WHERE id > $1 AND id <= $2",
    postgres: "DELETE FROM bindings_log WHERE id > $1 AND id <= $2",
};

const SECRETS: Statement = rows!(
    "INSERT INTO sealed_secrets (device, account, realm, key_id, md5, sha256, sha512_256, set_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, r.value->>4, r.value->>5, r.value->>6,
            CAST(r.value->>7 AS BIGINT), CAST(r.value->>8 AS BIGINT)",
    "(device) DO UPDATE SET account = excluded.account, realm = excluded.realm, key_id = excluded.key_id,
         md5 = excluded.md5, sha256 = excluded.sha256, sha512_256 = excluded.sha512_256, set_at = excluded.set_at,
         seq = excluded.seq"
);

const LINKS: Statement = rows!(
    "INSERT INTO links (id, account, device, user_id, began_at, ended_at, seq)
     SELECT r.value->>0, r.value->>1, r.value->>2, r.value->>3, CAST(r.value->>4 AS BIGINT),
            CAST(r.value->>5 AS BIGINT), CAST(r.value->>6 AS BIGINT)",
    "(id) DO UPDATE SET ended_at = excluded.ended_at, seq = excluded.seq"
);

pub(super) const CALLS: Statement = rows!(
    "INSERT INTO calls (id, account, began_at, ended_at, direction, outcome, body)
     SELECT r.value->>0, r.value->>1, CAST(r.value->>2 AS BIGINT), CAST(r.value->>3 AS BIGINT), r.value->>4,
            r.value->>5, r.value->>6",
    "(id) DO UPDATE SET began_at = excluded.began_at, ended_at = excluded.ended_at, direction = excluded.direction,
         outcome = excluded.outcome, body = excluded.body"
);

/// Calls that turned out to be others, by their ids; what hangs on them goes with them.
pub(super) const CALLS_GONE: Statement = delete!("calls", "id");

/// Whoever no longer has to do with a call goes, by the calls' ids.
pub(super) const CALL_USERS_GONE: Statement = delete!("call_users", "call_id");

pub(super) const CALL_USERS: Statement = rows!(
    "INSERT INTO call_users (user_id, began_at, call_id)
     SELECT r.value->>0, CAST(r.value->>1 AS BIGINT), r.value->>2",
    "(user_id, began_at, call_id) DO NOTHING"
);

pub(super) const CALL_DEVICES_GONE: Statement = delete!("call_devices", "call_id");

pub(super) const CALL_DEVICES: Statement = rows!(
    "INSERT INTO call_devices (device, began_at, call_id)
     SELECT r.value->>0, CAST(r.value->>1 AS BIGINT), r.value->>2",
    "(device, began_at, call_id) DO NOTHING"
);

pub(super) const TRAIL: Statement = rows!(
    "INSERT INTO trail (seq, call_id, position, at, user_id, reason, device, queue, sessions, event)
     SELECT CAST(r.value->>0 AS BIGINT), r.value->>1, CAST(r.value->>2 AS BIGINT), CAST(r.value->>3 AS BIGINT),
            r.value->>4, r.value->>5, r.value->>6, r.value->>7, CAST(r.value->>8 AS BIGINT), r.value->>9",
    "(seq) DO NOTHING"
);

pub(super) const TRANSITIONS: Statement = rows!(
    "INSERT INTO transitions (seq, device, at, kind, contact, address, user_agent, cause)
     SELECT CAST(r.value->>0 AS BIGINT), r.value->>1, CAST(r.value->>2 AS BIGINT), r.value->>3, r.value->>4,
            r.value->>5, r.value->>6, r.value->>7",
    "(seq) DO NOTHING"
);
