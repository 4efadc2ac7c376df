-- Orders behind a view whose query takes a twentieth of a second, as a join over a large table would.
CREATE TABLE order_rows (
    id integer PRIMARY KEY,
    total_cents integer NOT NULL
);

INSERT INTO order_rows (id, total_cents) SELECT n, 100 * n FROM generate_series(1, 1000) AS n;

CREATE FUNCTION slowly(value integer) RETURNS integer LANGUAGE sql VOLATILE AS $$
    SELECT value FROM pg_sleep(0.05)
$$;

CREATE VIEW orders AS SELECT id, slowly(total_cents) AS total_cents FROM order_rows;
