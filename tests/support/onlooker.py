"""A look at the database from beside what is tested."""

from typing import Any

import psycopg

NAME = "onlooker"
#: A connection reads the catalogue first, and a function's statements are planned for good after five calls.
_CALLS_BEFORE = 7


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


async def pages(dsn: str, call: str) -> int:
    """How many pages a call of one of our functions touches, in all its statements, when it is not the first."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name=NAME)
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT public.{call}"
    plan: dict[str, Any] = {}
    try:
        for _ in range(_CALLS_BEFORE + 1):
            cursor = await connection.execute(query, prepare=False)  # pyright: ignore[reportArgumentType]
            ((explained,),) = await cursor.fetchall()
            plan = explained[0]["Plan"]
    finally:
        await connection.close()
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
