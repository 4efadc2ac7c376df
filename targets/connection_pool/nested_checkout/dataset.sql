-- Customers with credit, their orders, and an audit that has no foreign key: it may speak of an order that was rolled back.
CREATE TABLE customers (
    id integer PRIMARY KEY,
    credit_cents bigint NOT NULL
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    total_cents integer NOT NULL
);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL
);
CREATE INDEX ON audit (order_id);

INSERT INTO customers (id, credit_cents) SELECT id, 1000000000 FROM generate_series(1, 100) AS id;
INSERT INTO customers (id, credit_cents) VALUES (101, 0);
