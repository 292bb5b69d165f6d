-- Calls by how they ended and by which way they went, in the order listings show them.
--
-- Why: a listing of what is rare (calls that failed; calls out of an office that hardly makes any) looked at each call of the
-- account until its page was full: at a year of calls all of them. Expands only.

CREATE INDEX calls_by_outcome ON calls (account, outcome, began_at, id);
CREATE INDEX calls_by_direction ON calls (account, direction, began_at, id);
