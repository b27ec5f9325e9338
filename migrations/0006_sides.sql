-- All damage that a verification found is in the old store too. Earlier versions didn't note it.
ALTER TABLE verdict ADD COLUMN inherited INTEGER NOT NULL DEFAULT 0 CHECK (inherited IN (0, 1));
