-- The plan moves out of `run`: a change of state then rewrites one small row, whatever the size of the store, so that a rollback on a
-- full disk needs room for a few pages only.

CREATE TABLE plan (
    run         INTEGER PRIMARY KEY REFERENCES run (id),
    text        TEXT NOT NULL               -- the whole plan as JSON (schema unaufs.plan/1)
) STRICT;

INSERT INTO plan (run, text) SELECT id, plan FROM run;

ALTER TABLE run DROP COLUMN plan;

-- Layers that failed while running and were left out with --keep-going: a plan made anew must leave them out too.
CREATE TABLE lost (
    run         INTEGER NOT NULL REFERENCES run (id),
    layer       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (run, layer)
) STRICT, WITHOUT ROWID;
