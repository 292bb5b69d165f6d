-- SIP passwords of devices, sealed under a key that is not in the database.
--
-- Why a table of its own: no SQL can seal what `secrets` (0004) holds in plain. Whoever opens the database with a key moves its
-- rows here and empties it, so from then on it is there for nobody; a later version drops it, once no database of the first
-- kind is left (expand, then contract). Versions before this one refuse a database that has been here, so none of them writes
-- there again. Why `account`: it is sealed along with `device` and the name of the algorithm, so that a hash opens in its own
-- row and column only. Why `key_id`: keys are changed, and a start with the wrong one must say so and not begin without
-- passwords. A hash is a version, and nonce, ciphertext and tag in base64.

CREATE TABLE sealed_secrets (
    device      TEXT    NOT NULL PRIMARY KEY,
    account     TEXT    NOT NULL,
    realm       TEXT    NOT NULL,
    key_id      TEXT    NOT NULL,
    md5         TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    sha512_256  TEXT    NOT NULL,
    set_at      BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);
