-- Products with a description of 8 kB each, as they are read for a product page.
CREATE TABLE products (
    id integer PRIMARY KEY,
    price_cents integer NOT NULL,
    description text NOT NULL
);

INSERT INTO products (id, price_cents, description)
SELECT n, 1000 + n, repeat(md5(n::text), 256) FROM generate_series(1, 3000) AS n;

ANALYZE products;
