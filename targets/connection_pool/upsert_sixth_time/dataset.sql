CREATE TABLE subscriptions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,
    plan text NOT NULL,
    status text NOT NULL
);

CREATE UNIQUE INDEX one_active ON subscriptions (email) WHERE status = 'active';
