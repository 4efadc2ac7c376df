CREATE TABLE events (
    id integer PRIMARY KEY,
    at timestamptz NOT NULL
);

INSERT INTO events SELECT id, timestamptz '2026-01-01 12:00:00+00' + id * interval '1 day' FROM generate_series(1, 100) AS id;
