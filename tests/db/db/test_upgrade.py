"""A database that earlier versions made becomes the one of today, without losing a row."""

from pathlib import Path

import psycopg

from llm_common.db import migrate
from llm_common.db.database import Database
from tests.support.catalog import objects, rows_by_table

#: `pg_dump` of a database that the 22 files before the first release had migrated, with rows in all of its tables.
NOVEMBER = Path(__file__).parents[2] / "fixtures" / "database_of_november_2026.sql"


async def test_a_database_of_november_2026_becomes_the_one_of_today(empty_dsn: str, dsn: str) -> None:
    """Its objects are those of a new database, to the letter, and each of its rows is there as it was."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(NOVEMBER.read_bytes())
    before = rows_by_table(empty_dsn)
    assert [name for name, rows in before.items() if not rows] == []
    async with Database.connect(empty_dsn) as database:
        assert await database.migrate() == [migration.name for migration in migrate.migrations()]
        assert await database.migrate() == []
    assert objects(empty_dsn) == objects(dsn)
    after = rows_by_table(empty_dsn)
    for message in before["conversations"]:
        message["seq"] = message.pop("id")
    for name, rows in before.items():
        kept = [{column: row.get(column) for column in rows[0]} for row in after[name]]
        assert [row for row in rows if row not in kept] == [], name
