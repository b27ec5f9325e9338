-- `--target DIR`: what goes along to a new root in another place are units of their own. SQLite cannot change a CHECK: the table is made anew.

CREATE TABLE unit_new (
    run         INTEGER NOT NULL REFERENCES run (id),
    kind        TEXT NOT NULL CHECK (kind IN ('layer', 'metadata', 'carried')),
    name        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('intent', 'done')),
    tally       TEXT,                       -- what was really done, as JSON; 'carried': the state of what was copied
    proved      TEXT,
    PRIMARY KEY (run, kind, name)
) STRICT, WITHOUT ROWID;

INSERT INTO unit_new (run, kind, name, state, tally, proved) SELECT run, kind, name, state, tally, proved FROM unit;
DROP TABLE unit;
ALTER TABLE unit_new RENAME TO unit;
