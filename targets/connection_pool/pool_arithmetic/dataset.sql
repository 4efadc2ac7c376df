-- A report that takes a fifth of a second.
CREATE FUNCTION report(customer integer) RETURNS integer LANGUAGE sql VOLATILE AS $$
    SELECT customer * 100 FROM pg_sleep(0.2)
$$;
