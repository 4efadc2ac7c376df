CREATE TABLE transfers (
    id text PRIMARY KEY,
    cents integer NOT NULL
);

-- One row for each delivery that has ended.
CREATE TABLE deliveries (
    transfer_id text NOT NULL
);
