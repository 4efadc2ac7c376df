CREATE TABLE pages (
    page text PRIMARY KEY,
    views bigint NOT NULL
);

-- Names of the batches that were added; those of yesterday can be deleted.
CREATE TABLE batches (
    name text PRIMARY KEY,
    added_at timestamptz NOT NULL DEFAULT now()
);
