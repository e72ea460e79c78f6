"""What a database holds, for comparison: its objects in schema public, and its rows."""

import json

import psycopg

__all__ = ["objects", "rows_by_table"]

_OBJECTS = {
    "columns": """SELECT table_name, column_name, data_type, is_nullable, column_default, numeric_precision,
                         numeric_scale
                    FROM information_schema.columns WHERE table_schema = 'public'""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "constraints": """SELECT conrelid::regclass::text, conname, replace(pg_get_constraintdef(oid), ' NOT VALID', '')
                        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'""",
    "functions": """SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid) FROM pg_proc p
                     WHERE pronamespace = 'public'::regnamespace""",
    "triggers": "SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t WHERE NOT t.tgisinternal",
    "tables": """SELECT relname, relkind, reloptions::text, relrowsecurity FROM pg_class
                  WHERE relnamespace = 'public'::regnamespace""",
    "policies": "SELECT tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies",
}


def objects(dsn: str) -> dict[str, set[tuple[object, ...]]]:
    """All that schema public is made of, by kind."""
    with psycopg.connect(dsn, options="-c timezone=UTC -c search_path=public") as connection:
        return {kind: set(connection.execute(query).fetchall()) for kind, query in _OBJECTS.items()}


def rows_by_table(dsn: str) -> dict[str, list[dict[str, object]]]:
    """Every row of every table in schema public, as JSON gives it."""
    with psycopg.connect(dsn) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1"
        ).fetchall()
        return {
            name: [json.loads(row) for (row,) in connection.execute(f"SELECT to_json(t)::text FROM {name} t")]
            for (name,) in names
        }
