-- Queues as the PBX has them, and people who log in to theirs.
--
-- Why `reported` and `absent_since` on a queue: once a feed of the PBX tells who is in it, changes made here must go to
-- the PBX, also right after a start, before that feed is up again; and a queue the PBX no longer has is kept and marked,
-- since only a person may delete what rules and users refer to.
-- Why `parked` on a user: logging out takes their phones out of queues on the PBX, which then does not remember that they
-- were in; logging in puts back what is noted here. JSON, for it is always read whole. Members carry their penalty, kind
-- and state inside the `members` they are part of.

ALTER TABLE queues ADD COLUMN reported BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE queues ADD COLUMN absent_since BIGINT;

ALTER TABLE users ADD COLUMN queue_login TEXT NOT NULL DEFAULT 'manual';
ALTER TABLE users ADD COLUMN parked TEXT NOT NULL DEFAULT '[]';
