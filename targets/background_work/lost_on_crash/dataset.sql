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

-- What procrastinate still has to do; it makes its tables itself, when an app that uses it starts.
CREATE FUNCTION jobs_of_procrastinate() RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('procrastinate_jobs') IS NOT NULL THEN
        RETURN QUERY EXECUTE 'SELECT (args ->> ''user_id'')::bigint FROM procrastinate_jobs
            WHERE task_name = ''welcome'' AND status IN (''todo'', ''doing'')';
    END IF;
END
$$;
