-- One row for each execution of a job.
CREATE TABLE runs (
    job_id text NOT NULL,
    seconds double precision NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz
);
