-- One run, its identity and its end.

-- Random; the same is in .unaufs/run.json. NULL: begun by an unaufs that gave none.
ALTER TABLE run ADD COLUMN identity TEXT;

-- Every verification leaves its verdict; the last one counts, unless what it judged was built again.
CREATE TABLE verdict (
    id          INTEGER PRIMARY KEY,
    run         INTEGER NOT NULL REFERENCES run (id),
    at          TEXT NOT NULL,              -- RFC 3339
    level       TEXT NOT NULL CHECK (level IN ('fast', 'full')),
    clean       INTEGER NOT NULL CHECK (clean IN (0, 1)),
    counts      TEXT NOT NULL,              -- JSON: how many differences of each kind
    docker_ran  INTEGER NOT NULL CHECK (docker_ran IN (0, 1)),
    withdrawn   INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1))
) STRICT;

-- "level time", of the last one without a difference
INSERT INTO verdict (run, at, level, clean, counts, docker_ran)
    SELECT id, substr(verified, 6), substr(verified, 1, 4), 1, '{}', 0 FROM run WHERE substr(verified, 1, 5) IN ('fast ', 'full ');

ALTER TABLE run DROP COLUMN verified;
