-- 50,000 tasks whose times an import has set, eight within each millisecond, and 500 tasks without a time.
CREATE TABLE tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    due_at timestamptz
);

INSERT INTO tasks (due_at)
SELECT timestamptz '2026-01-01 00:00:00+00' + (n / 8) * interval '1 millisecond' + (n % 8 * 100 + 50) * interval '1 microsecond'
FROM generate_series(0, 49999) AS n;
INSERT INTO tasks (due_at) SELECT NULL FROM generate_series(1, 500);

CREATE INDEX tasks_by_time ON tasks (due_at DESC NULLS LAST, id DESC);
CREATE INDEX tasks_by_time_or_none ON tasks (COALESCE(due_at, '-infinity'), id);

ANALYZE tasks;
