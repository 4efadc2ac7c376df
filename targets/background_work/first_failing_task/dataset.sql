CREATE TABLE signups (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    plan text NOT NULL
);

CREATE TABLE invoices (
    signup_id bigint PRIMARY KEY REFERENCES signups,
    cents integer NOT NULL
);

CREATE TABLE workspaces (
    signup_id bigint PRIMARY KEY REFERENCES signups
);
