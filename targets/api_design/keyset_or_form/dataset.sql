-- 200,000 events that were imported in batches of 25: now() is constant in a transaction, so a batch has one time.
CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO events (kind, created_at)
SELECT n % 7, timestamptz '2025-01-01 00:00:00+00' + ((n - 1) / 25) * interval '1 minute'
FROM generate_series(1::bigint, 200000) AS n;

CREATE INDEX events_by_time ON events (created_at, id);

ANALYZE events;
