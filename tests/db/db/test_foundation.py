"""Who may touch our tables and functions, on a Postgres with Supabase's roles and on a plain one."""

import psycopg
import pytest

from llm_common.db import migrate
from llm_common.db.database import Database

_API_ROLES = ("anon", "authenticated")


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


_OUR_TABLES = """SELECT c.oid::regclass::text FROM pg_class c
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"""
_OUR_FUNCTIONS = "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"


def test_every_table_is_closed(dsn: str) -> None:
    """Row-level security is on for each of our tables, and the API's roles have no right on any of them."""
    assert len(rows(dsn, _OUR_TABLES)) > 8
    assert rows(dsn, f"{_OUR_TABLES} AND NOT c.relrowsecurity") == []
    for role in _API_ROLES:
        every = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
        assert rows(dsn, f"{_OUR_TABLES} AND has_table_privilege('{role}', c.oid, '{every}')") == []


def test_every_view_and_sequence_is_closed(dsn: str) -> None:
    """Nothing else that we make in the schema is open either."""
    for role in _API_ROLES:
        others = f"""SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND
            (c.relkind IN ('v', 'm') AND has_table_privilege('{role}', c.oid, 'SELECT')
             OR c.relkind = 'S' AND has_sequence_privilege('{role}', c.oid, 'USAGE, SELECT, UPDATE'))"""
        assert rows(dsn, others) == []


def test_every_function_is_closed(dsn: str) -> None:
    """The API's roles may call none of our functions but what compares two values; service_role may call each.

    A trigger's function is called by nobody.
    """
    compares = "p.oid IN (SELECT oprcode FROM pg_operator)"
    for role in _API_ROLES:
        called = f"has_function_privilege('{role}', p.oid, 'EXECUTE')"
        assert rows(dsn, f"{_OUR_FUNCTIONS} AND {called} AND NOT {compares}") == []
    closed = "NOT has_function_privilege('service_role', p.oid, 'EXECUTE')"
    assert rows(dsn, f"{_OUR_FUNCTIONS} AND {closed} AND p.prorettype <> 'trigger'::regtype") == []


def test_every_function_is_written_for_both_transports(dsn: str) -> None:
    """No overloads, the caller's rights, and no search path that a host's objects could get into.

    Triggers on what a host inserts have the owner's rights, for the host's role need not reach our counters.
    """
    names = [name.partition("(")[0] for (name,) in rows(dsn, _OUR_FUNCTIONS)]
    assert len(names) == len(set(names))
    assert rows(dsn, f"{_OUR_FUNCTIONS} AND p.prosecdef AND p.prorettype <> 'trigger'::regtype") == []
    assert rows(dsn, f"{_OUR_FUNCTIONS} AND NOT coalesce(p.proconfig, '{{}}') @> ARRAY['search_path=\"\"']") == []


def test_service_role_works_under_row_level_security(dsn: str) -> None:
    """The policy lets service_role through even where it does not bypass row-level security."""
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER ROLE service_role NOBYPASSRLS")
        connection.execute("SET LOCAL ROLE service_role")
        connection.execute("INSERT INTO llm_common_migrations (name, checksum) VALUES ('x', 'y')")
        assert connection.execute("SELECT name FROM llm_common_migrations WHERE name = 'x'").fetchone() == ("x",)
        connection.rollback()


@pytest.mark.parametrize("role", _API_ROLES)
def test_an_api_role_is_refused(dsn: str, role: str) -> None:
    """The rights are not only on paper."""
    for statement in ("SELECT * FROM llm_common_migrations", "SELECT llm_common_secure_table('llm_common_migrations')"):
        with psycopg.connect(dsn) as connection:
            connection.execute(f"SET LOCAL ROLE {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_default_grants_of_older_projects_are_taken_back(empty_dsn: str) -> None:
    """Where the host's schema grants new tables and functions to everybody by default, ours are closed all the same."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
            connection.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO anon, authenticated, service_role"
            )
        connection.execute("CREATE TABLE public.of_the_host (n int)")
        for migration in migrate.migrations():
            connection.execute(migration.sql)
    test_every_function_is_closed(empty_dsn)
    test_every_view_and_sequence_is_closed(empty_dsn)
    open_tables = f"{_OUR_TABLES} AND has_table_privilege('anon', c.oid, 'SELECT')"
    assert rows(empty_dsn, open_tables) == [("of_the_host",)]
    assert rows(empty_dsn, "SELECT relrowsecurity FROM pg_class WHERE relname = 'of_the_host'") == [(False,)]


def test_a_sequence_of_a_column_comes_along(empty_dsn: str) -> None:
    """A table that numbers its rows can be written by service_role."""
    with psycopg.connect(empty_dsn) as connection:
        connection.execute(migrate.migrations()[0].sql)
        connection.execute("GRANT USAGE ON SCHEMA public TO service_role")
        connection.execute("CREATE TABLE public.numbered (a int GENERATED ALWAYS AS IDENTITY, b serial, word text)")
        connection.execute("SELECT public.llm_common_secure_table('public.numbered')")
        connection.execute("SET LOCAL ROLE service_role")
        connection.execute("INSERT INTO public.numbered (word) VALUES ('x')")


async def test_everything_runs_on_debians_15_without_supabases_roles(debian_15: str) -> None:
    """All migrations run twice on a plain PostgreSQL 15, and have recorded themselves."""
    with psycopg.connect(debian_15, autocommit=True) as connection:
        for migration in migrate.migrations():
            connection.execute(migration.sql)
    async with Database.connect(debian_15) as database:
        assert await database.migrate() == []
        assert await database.migrate(repeat=True) == [migration.name for migration in migrate.migrations()]
    for role in _API_ROLES:
        assert rows(debian_15, f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'") == []
    public = "has_function_privilege('public', p.oid, 'EXECUTE') AND p.oid NOT IN (SELECT oprcode FROM pg_operator)"
    assert rows(debian_15, f"{_OUR_FUNCTIONS} AND {public}") == []
