CREATE TABLE prices (
    sku text PRIMARY KEY,
    cents integer NOT NULL,
    version bigint NOT NULL DEFAULT 1
);

INSERT INTO prices SELECT 'SKU-' || n, 1000 FROM generate_series(1, 100) AS n;
