CREATE TABLE catalogues (
    id integer PRIMARY KEY,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT '2026-01-01T00:00:00Z'
);

CREATE TABLE items (
    catalogue_id integer NOT NULL REFERENCES catalogues,
    id integer NOT NULL,
    name text NOT NULL,
    price_cents integer NOT NULL,
    PRIMARY KEY (catalogue_id, id)
);

INSERT INTO catalogues (id) SELECT generate_series(1, 10);
INSERT INTO items SELECT c, i, 'Item ' || i, 100 + i FROM generate_series(1, 10) AS c, generate_series(1, 500) AS i;

-- Whoever writes an item, in whatever program, gives its catalogue a new version in the same transaction.
CREATE FUNCTION new_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalogues SET version = version + 1, updated_at = clock_timestamp()
        WHERE id IN (NEW.catalogue_id, OLD.catalogue_id);
    RETURN NULL;
END $$;

CREATE TRIGGER items_new_version AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION new_version();
