-- `migrate --prepare`: image layers are built and proved while Docker still runs; a later `migrate` does the rest.

ALTER TABLE run ADD COLUMN prepared INTEGER NOT NULL DEFAULT 0 CHECK (prepared IN (0, 1));

-- The level at which a layer's view in the stage was compared without a difference.
ALTER TABLE unit ADD COLUMN proved TEXT;
