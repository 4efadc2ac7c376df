-- Prices behind a view whose query takes a twentieth of a second after it has read its row, as a join over a large table would.
CREATE TABLE price_rows (
    product_id integer PRIMARY KEY,
    price_cents integer NOT NULL
);

INSERT INTO price_rows (product_id, price_cents) SELECT n, 100 FROM generate_series(1, 100) AS n;

CREATE FUNCTION slowly(value integer) RETURNS integer LANGUAGE sql VOLATILE AS $$
    SELECT value FROM pg_sleep(0.05)
$$;

CREATE VIEW prices AS SELECT product_id, slowly(price_cents) AS price_cents FROM price_rows;
