"""A look at the database from beside what is tested."""

from typing import Any

import psycopg

NAME = "onlooker"


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives, over a connection of its own.

    Closed by hand: `async with` commits first, and where a run's listener is cancelled in that very moment (its lease
    was lost), psycopg leaves the connection open for the garbage collector to complain of.
    """
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name=NAME)
    try:
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]
    finally:
        await connection.close()
