CREATE TABLE users (
    id integer PRIMARY KEY,
    token_digest text NOT NULL UNIQUE,
    plan text NOT NULL
);

CREATE TABLE plans (
    name text PRIMARY KEY,
    reports_per_day integer NOT NULL
);

CREATE TABLE reports (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id integer NOT NULL REFERENCES users,
    title text NOT NULL,
    rows integer NOT NULL
);

INSERT INTO plans VALUES ('business', 1000000);
INSERT INTO users SELECT id, encode(sha256(convert_to('token-' || id, 'UTF8')), 'hex'), 'business' FROM generate_series(1, 20) AS id;
