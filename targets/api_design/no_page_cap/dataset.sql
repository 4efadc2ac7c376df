CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    amount_cents integer NOT NULL
);

INSERT INTO orders (amount_cents) SELECT n % 10000 FROM generate_series(1, 100000) AS n;

ANALYZE orders;
