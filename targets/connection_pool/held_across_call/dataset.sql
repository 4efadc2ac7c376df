CREATE TABLE orders (
    id integer PRIMARY KEY,
    shipping_cents integer
);

INSERT INTO orders (id) SELECT generate_series(1, 200000);

ANALYZE orders;
