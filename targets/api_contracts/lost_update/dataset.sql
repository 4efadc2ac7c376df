-- One article that everybody edits, a hundred others, one that stays as it is; a log of the tags that an update took away.
CREATE TABLE articles (
    id integer PRIMARY KEY,
    title text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1
);

INSERT INTO articles (id, title) SELECT id, 'Article ' || id FROM generate_series(1, 101) AS id;
INSERT INTO articles (id, title) VALUES (999, 'Nobody edits this one');

-- What an auditor keeps: an update that takes away a tag that its author never saw has undone somebody's work.
CREATE TABLE undone (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    article_id integer NOT NULL,
    tags text[] NOT NULL
);

CREATE FUNCTION note_what_is_undone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT NEW.tags @> OLD.tags THEN
        INSERT INTO undone (article_id, tags) VALUES (OLD.id, OLD.tags);
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit BEFORE UPDATE ON articles FOR EACH ROW EXECUTE FUNCTION note_what_is_undone();
