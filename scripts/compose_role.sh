#!/bin/sh
# Runs once in the PostgreSQL container of docker-compose.yml: the target's role, which is no superuser, and its database.
exec psql -v ON_ERROR_STOP=1 -U postgres <<'SQL'
\getenv password LAB_PASSWORD
CREATE ROLE app LOGIN NOSUPERUSER PASSWORD :'password';
CREATE DATABASE app OWNER app;
SQL
