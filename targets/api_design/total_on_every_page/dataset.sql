CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL,
    amount_cents integer NOT NULL
);

-- Five customers with 20,000 orders each, and one with 300.
INSERT INTO orders (customer_id, amount_cents) SELECT 1 + (n - 1) / 20000, n % 10000 FROM generate_series(1, 100000) AS n;
INSERT INTO orders (customer_id, amount_cents) SELECT 6, n FROM generate_series(1, 300) AS n;

CREATE INDEX orders_by_customer ON orders (customer_id, id);

ANALYZE orders;
