-- A session is what a login begins; of its refresh tokens the table keeps digests, and when each was replaced.
CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    ended_at timestamptz
);

CREATE TABLE refresh_tokens (
    digest bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions,
    replaced_at timestamptz
);
CREATE INDEX ON refresh_tokens (session_id);
