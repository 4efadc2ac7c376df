-- One row for each job, however often it is delivered; "results" counts how often its result was written.
CREATE TABLE runs (
    job_id text PRIMARY KEY,
    seconds double precision NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    deliveries integer NOT NULL DEFAULT 1,
    results integer NOT NULL DEFAULT 0
);
