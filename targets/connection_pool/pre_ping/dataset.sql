CREATE TABLE products (
    id integer PRIMARY KEY,
    name text NOT NULL,
    price_cents integer NOT NULL
);

INSERT INTO products SELECT id, 'Product ' || id, 100 + id FROM generate_series(1, 1000) AS id;
