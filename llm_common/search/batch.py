"""Many searches side by side, each with a status of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from llm_common.exceptions import InvalidInputError, LLMCommonError
from llm_common.search.result import SearchResult

__all__ = ["QueryResult", "search_all"]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What became of one query. `ok` with its results, `failed` with its error, `late`: no answer in time."""

    query: str
    status: Literal["ok", "failed", "late"]
    results: tuple[SearchResult, ...] = ()
    error: LLMCommonError | None = None


async def search_all(
    queries: Sequence[str],
    search: Callable[[str], Awaitable[Sequence[SearchResult]]],
    *,
    concurrency: int,
    timeout: float | None,
    on_progress: Callable[[int, int], None] | None,
) -> list[QueryResult]:
    """In the order of the queries. `timeout` bounds all of them together, in seconds.

    `on_progress(done, total)` is called after each. A late query's request goes on by itself, so that its answer is
    there the next time.
    """
    if concurrency < 1:
        raise InvalidInputError(f"concurrency must be 1 or more, not {concurrency}")
    slots = asyncio.Semaphore(concurrency)
    done = 0

    async def one(query: str) -> QueryResult:
        nonlocal done
        async with slots:
            try:
                outcome = QueryResult(query, "ok", tuple(await search(query)))
            except LLMCommonError as error:
                outcome = QueryResult(query, "failed", error=error)
        done += 1
        if on_progress is not None:
            on_progress(done, len(queries))
        return outcome

    tasks = [asyncio.ensure_future(one(query)) for query in queries]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [
        QueryResult(query, "late") if task.cancelled() else task.result()
        for query, task in zip(queries, tasks, strict=True)
    ]
