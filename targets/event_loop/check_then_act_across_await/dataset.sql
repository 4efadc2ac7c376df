-- One concert with five seats left; a reservation is a row.
CREATE TABLE concerts (
    id integer PRIMARY KEY,
    seats_left integer NOT NULL
);

CREATE TABLE reservations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    concert_id integer NOT NULL REFERENCES concerts,
    customer_id integer NOT NULL
);

INSERT INTO concerts (id, seats_left) VALUES (1, 5);
