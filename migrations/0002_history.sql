-- What happened: calls, the reasons behind popups, devices going up and down. Appended by the journal, asked page by
-- page, pruned by age in small steps.
--
-- Why a call is one JSON body with a few columns beside it: it is always read whole, and the columns are those that
-- listings filter and order by. Who had to do with it is in two small tables, each ordered the way its listing reads.

CREATE TABLE calls (
    id          TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    began_at    BIGINT  NOT NULL,
    ended_at    BIGINT,
    direction   TEXT    NOT NULL,
    outcome     TEXT,
    body        TEXT    NOT NULL
);

CREATE INDEX calls_by_account ON calls (account, began_at, id);
CREATE INDEX calls_by_age ON calls (began_at);
CREATE INDEX calls_living ON calls (id) WHERE ended_at IS NULL;

CREATE TABLE call_users (
    user_id     TEXT    NOT NULL,
    began_at    BIGINT  NOT NULL,
    call_id     TEXT    NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, began_at, call_id)
);

CREATE INDEX call_users_by_call ON call_users (call_id);

CREATE TABLE call_devices (
    device      TEXT    NOT NULL,
    began_at    BIGINT  NOT NULL,
    call_id     TEXT    NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    PRIMARY KEY (device, began_at, call_id)
);

CREATE INDEX call_devices_by_call ON call_devices (call_id);

-- Keyed by the journal's number: a commit that was cut short is written again, and must not leave entries twice.
CREATE TABLE trail (
    seq         BIGINT  NOT NULL PRIMARY KEY,
    call_id     TEXT    NOT NULL,
    position    BIGINT  NOT NULL,
    at          BIGINT  NOT NULL,
    user_id     TEXT,
    reason      TEXT    NOT NULL,
    device      TEXT,
    queue       TEXT,
    sessions    BIGINT  NOT NULL,
    event       TEXT    NOT NULL
);

CREATE INDEX trail_by_call ON trail (call_id, position);
CREATE INDEX trail_by_age ON trail (at);

CREATE TABLE transitions (
    seq         BIGINT  NOT NULL PRIMARY KEY,
    device      TEXT    NOT NULL,
    at          BIGINT  NOT NULL,
    kind        TEXT    NOT NULL,
    contact     TEXT,
    address     TEXT,
    user_agent  TEXT,
    cause       TEXT    NOT NULL
);

CREATE INDEX transitions_by_device ON transitions (device, seq);
CREATE INDEX transitions_by_age ON transitions (at);
