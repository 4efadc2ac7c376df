-- An order is a row here and a charge at the payment provider, which is another service.
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL,
    total_cents integer NOT NULL
);

-- One row for each intended order.  "response" is null until it is placed; until "locked_until" somebody is placing it.
CREATE TABLE idempotency_keys (
    customer_id integer NOT NULL,
    key text NOT NULL,
    request text NOT NULL,
    response bytea,
    locked_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, key)
);
CREATE INDEX idempotency_keys_unfinished ON idempotency_keys (locked_until) WHERE response IS NULL;
