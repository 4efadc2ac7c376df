-- One user for each 201; one welcome for each mail that the provider confirmed; one job for each mail still to send (correct only).
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- user_id is not unique here, so that a job that is done twice shows as two rows.
CREATE TABLE welcomes (
    user_id bigint NOT NULL REFERENCES users,
    sent_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    run_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    error text
);
CREATE INDEX jobs_due ON jobs (run_at);
