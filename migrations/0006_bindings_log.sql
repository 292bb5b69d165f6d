-- Bindings become a log: what one commit changed is appended as lines of a few rows, in place of a row a device.
--
-- Why: phones refresh all the time, and nobody reads these rows but the next start. A row a device costs the database a
-- look into the index and a page of its own for each refresh, more of both the more devices there are; an appended line
-- costs the bytes it is long. The latest line of a device is what counts. The journal reads the oldest rows back, appends
-- anew what still counts in them and deletes them, so that the log never holds much more than two lines a device.
--
-- `id` is the number of the commit, shifted left by 16 bits, and a place within it. A line of `body` is the device, the
-- number of the bindings' last change, and the contacts as JSON; an empty list when there are none any more. A body is
-- kept below what Postgres would move out of the row.

CREATE TABLE bindings_log (
    id          BIGINT  NOT NULL PRIMARY KEY,
    body        TEXT    NOT NULL
);

INSERT INTO bindings_log (id, body)
    SELECT row_number() OVER (ORDER BY device), device || ' ' || CAST(seq AS TEXT) || ' ' || contacts FROM bindings;

DROP TABLE bindings;
