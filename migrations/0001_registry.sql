-- What lives in memory: one row a record, written by the journal and read once at start.
--
-- Why so plain: memory is the truth and has checked every reference and every unique value before a change gets here, and
-- one commit may both delete and create what would collide in between. So there are no foreign keys and no unique columns
-- besides the primary key; a refused row would only be a change that somebody was promised and nobody could keep.
-- Why TEXT and BIGINT: one text for SQLite and Postgres. Ids are UUIDs in their usual form, times are milliseconds since
-- 1970, lists and settings are JSON. `seq` is the number of the record's last change.

CREATE TABLE accounts (
    id          TEXT    NOT NULL PRIMARY KEY,
    parent      TEXT,
    name        TEXT    NOT NULL,
    domains     TEXT    NOT NULL,
    number_plan TEXT    NOT NULL,
    settings    TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);

CREATE TABLE sites (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);

CREATE TABLE pbxs (
    id                    TEXT    NOT NULL PRIMARY KEY,
    account               TEXT    NOT NULL,
    site                  TEXT    NOT NULL,
    name                  TEXT    NOT NULL,
    domain                TEXT    NOT NULL,
    aliases               TEXT    NOT NULL,
    any_domain            BOOLEAN NOT NULL,
    networks              TEXT    NOT NULL,
    passive_expires_max_s BIGINT  NOT NULL,
    passive_grace_s       BIGINT  NOT NULL,
    queue_rules           TEXT    NOT NULL,
    control               BOOLEAN NOT NULL,
    created_at            BIGINT  NOT NULL,
    seq                   BIGINT  NOT NULL
);

CREATE TABLE users (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    email       TEXT,
    name        TEXT    NOT NULL,
    enabled     BOOLEAN NOT NULL,
    dnd         BOOLEAN NOT NULL,
    pop_on      TEXT    NOT NULL,
    queues      TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);

CREATE TABLE queues (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    pbx         TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    number      TEXT,
    members     TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);

CREATE TABLE tokens (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    user_id     TEXT,
    pbx         TEXT,
    label       TEXT    NOT NULL,
    hash        TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    expires_at  BIGINT,
    seq         BIGINT  NOT NULL
);

CREATE TABLE devices (
    id           TEXT    NOT NULL PRIMARY KEY,
    account      TEXT    NOT NULL,
    pbx          TEXT    NOT NULL,
    user_part    TEXT    NOT NULL,
    extension    TEXT,
    label        TEXT,
    caller_id    TEXT,
    enabled      BOOLEAN NOT NULL,
    assignable   BOOLEAN NOT NULL,
    last_caller  TEXT,
    last_seen_at BIGINT  NOT NULL,
    created_at   BIGINT  NOT NULL,
    seq          BIGINT  NOT NULL
);

-- Apart from `devices`, because these rows change with every refresh and those hardly ever. All contacts of a device are
-- one JSON array: a REGISTER decides them together, and costs one row. No index but the key, so that Postgres can
-- rewrite a row in place (HOT).
CREATE TABLE bindings (
    device      TEXT    NOT NULL PRIMARY KEY,
    contacts    TEXT    NOT NULL,
    seq         BIGINT  NOT NULL
);

-- Links are never deleted: an unlink sets `ended_at`, and "who held extension 204 at 10:31?" is asked of these rows.
CREATE TABLE links (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    device      TEXT    NOT NULL,
    user_id     TEXT    NOT NULL,
    began_at    BIGINT  NOT NULL,
    ended_at    BIGINT,
    seq         BIGINT  NOT NULL
);

CREATE INDEX links_by_device ON links (device, began_at, id);
CREATE INDEX links_by_user ON links (user_id, began_at, id);
CREATE INDEX links_lasting ON links (id) WHERE ended_at IS NULL;

-- One row: the highest change number of which no other row may be left to tell, because its row was deleted. Numbers are
-- entity tags, and one that was seen must not come back with another meaning.
CREATE TABLE journal (
    id          BIGINT  NOT NULL PRIMARY KEY,
    seq         BIGINT  NOT NULL
);

INSERT INTO journal (id, seq) VALUES (1, 0);
