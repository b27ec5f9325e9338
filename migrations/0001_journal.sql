-- The journal of unaufs: what was planned, what is being done, what is done.
-- A numbered file is never changed once it was released; a change of the schema is a further file.

CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    plan        TEXT NOT NULL,              -- the whole plan as JSON (schema unaufs.plan/1)
    fingerprint TEXT NOT NULL,
    started     TEXT NOT NULL,              -- RFC 3339
    state       TEXT NOT NULL CHECK (state IN
        ('building', 'built', 'verified', 'switching', 'switched', 'undoing', 'undone', 'cleaned')),
    verified    TEXT                        -- level and time of the last verification without a difference
) STRICT;

-- A unit of work is a layer or a set of metadata files, never a file of a layer. All units are 'intent' before the first effect;
-- 'done' is written after the file system was synced. What is 'intent' after a crash is removed and done again.
CREATE TABLE unit (
    run         INTEGER NOT NULL REFERENCES run (id),
    kind        TEXT NOT NULL CHECK (kind IN ('layer', 'metadata')),
    name        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('intent', 'done')),
    tally       TEXT,                       -- what was really done, as JSON
    PRIMARY KEY (run, kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    id          INTEGER PRIMARY KEY,
    run         INTEGER NOT NULL REFERENCES run (id),
    at          TEXT NOT NULL,              -- RFC 3339
    what        TEXT NOT NULL
) STRICT;
