-- Placing an order charges a card, which takes a twentieth of a second, and leaves a row.
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL,
    total_cents integer NOT NULL
);

CREATE TABLE idempotency_keys (
    customer_id integer NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, key)
);

CREATE FUNCTION place_order(customer integer, cents integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    order_id bigint;
BEGIN
    PERFORM pg_sleep(0.05);
    INSERT INTO orders (customer_id, total_cents) VALUES (customer, cents) RETURNING id INTO order_id;
    RETURN order_id;
END
$$;
