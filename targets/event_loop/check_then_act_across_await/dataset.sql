-- A concert with five seats, one with more than anybody buys; a reservation is a row.
CREATE TABLE concerts (
    id integer PRIMARY KEY,
    seats integer NOT NULL,
    seats_left integer NOT NULL CHECK (seats_left BETWEEN 0 AND seats)
);

CREATE TABLE reservations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    concert_id integer NOT NULL REFERENCES concerts,
    customer_id integer NOT NULL
);

INSERT INTO concerts (id, seats, seats_left) VALUES (1, 5, 5), (2, 1000000, 1000000);

-- What an auditor compares: the seats of a concert, those that are left, those that are sold.
CREATE VIEW books AS
SELECT c.seats, c.seats_left, count(r.id) AS sold
FROM concerts c LEFT JOIN reservations r ON r.concert_id = c.id
GROUP BY c.id;
