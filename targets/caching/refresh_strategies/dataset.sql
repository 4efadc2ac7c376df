-- Reports that take their time, each with the age up to which it is good; every build is noted with its start.
CREATE TABLE reports (
    name text PRIMARY KEY,
    body text NOT NULL,
    build_s double precision NOT NULL,
    max_age_s double precision NOT NULL
);

CREATE TABLE report_builds (
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO reports (name, body, build_s, max_age_s)
SELECT 'region-' || n, repeat(md5(n::text), 16), 0.1, 0.8 FROM generate_series(1, 21) AS n;

CREATE FUNCTION build_report(wanted text) RETURNS TABLE (body text, max_age_s double precision) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO report_builds (name) SELECT reports.name FROM reports WHERE reports.name = wanted;
    PERFORM pg_sleep(reports.build_s) FROM reports WHERE reports.name = wanted;
    RETURN QUERY SELECT reports.body, reports.max_age_s FROM reports WHERE reports.name = wanted;
END
$$;
