-- A change is a row; tx is the transaction that has made it.
CREATE TABLE changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    text text NOT NULL
);
CREATE INDEX changes_by_tx ON changes (tx, id);
