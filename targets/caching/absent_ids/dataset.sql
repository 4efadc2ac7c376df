CREATE TABLE products (
    id integer PRIMARY KEY,
    name text NOT NULL
);

INSERT INTO products SELECT id, 'Product ' || id FROM generate_series(1, 1000) AS id;
