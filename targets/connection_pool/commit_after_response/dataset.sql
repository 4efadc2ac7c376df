-- A seat can be booked once.  The constraint is checked at the commit, as it must be where seats are swapped within a transaction.
CREATE TABLE bookings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seat integer NOT NULL,
    CONSTRAINT one_booking_per_seat UNIQUE (seat) DEFERRABLE INITIALLY DEFERRED
);
