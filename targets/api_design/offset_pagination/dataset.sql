-- One million orders, two at each instant (so that the order needs its tie-breaker), one instant every forty seconds.
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL,
    total_cents integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO orders (customer_id, total_cents, created_at)
SELECT 1 + n % 5000, 100 + n * 7919 % 90000, timestamptz '2025-01-01 00:00:00+00' + (n / 2) * interval '40 seconds'
FROM generate_series(1::bigint, 1000000) AS n;

CREATE INDEX orders_by_time ON orders (created_at, id);

ANALYZE orders;
