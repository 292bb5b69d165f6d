-- SIP passwords of devices, as what is kept of them.
--
-- Why apart from `devices`: those rows are read and shown all over, these by nobody but the registrar, and most devices have
-- none. Why three hashes: a password can't be asked for again when another algorithm is turned on. Why `realm` in each row:
-- it is hashed as well, so a secret means nothing under another one. Hashes are in hexadecimal.

CREATE TABLE secrets (
    device      TEXT    NOT NULL PRIMARY KEY,
    realm       TEXT    NOT NULL,
    md5         TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    sha512_256  TEXT    NOT NULL,
    set_at      BIGINT  NOT NULL,
    seq         BIGINT  NOT NULL
);
