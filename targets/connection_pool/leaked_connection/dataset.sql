CREATE TABLE orders (
    id integer PRIMARY KEY,
    total_cents integer NOT NULL
);

INSERT INTO orders (id, total_cents) SELECT id, 100 * id FROM generate_series(1, 100) AS id;
