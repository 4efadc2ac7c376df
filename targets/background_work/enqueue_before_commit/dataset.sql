CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text NOT NULL
);

CREATE TABLE receipts (
    order_id bigint PRIMARY KEY
);

-- Jobs that found no order.
CREATE TABLE misses (
    order_id bigint NOT NULL
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
);
