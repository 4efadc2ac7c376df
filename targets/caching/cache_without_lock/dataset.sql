-- A small shop's sales, and a report over them that is slow without burning CPU: the view waits a quarter of a second where a
-- real one would scan millions of rows, so that the number of queries, and not this machine's cores, is what is measured.
CREATE TABLE sales (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sold_on date NOT NULL,
    total_cents integer NOT NULL
);

INSERT INTO sales (sold_on, total_cents)
SELECT date '2026-01-01' + n % 7, 100 + n * 7919 % 90000
FROM generate_series(0, 6999) AS n;

CREATE VIEW daily_sales AS
WITH slow AS MATERIALIZED (SELECT pg_sleep(0.25))
SELECT sold_on, count(*) AS orders, sum(total_cents) AS total_cents
FROM sales CROSS JOIN slow
GROUP BY sold_on;

ANALYZE sales;
