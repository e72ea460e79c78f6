"""Many analyses: enqueued in bulk, and executed a bounded number at a time."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeAlias, TypeVar

from llm_common.db.functions.queue import QueueFunctions
from llm_common.db.functions.runs import RunStatus
from llm_common.db.transport import Json
from llm_common.exceptions import InvalidInputError, LLMCommonError
from llm_common.pipeline.schemas import AnalysisResult

__all__ = ["Enqueued", "Execute", "Item", "RunResult", "content_key", "enqueue_items", "stream_results"]

A = TypeVar("A", bound=AnalysisResult)

#: So many runs, or so many characters of text, go to the database at once.
_CHUNK, _CHUNK_CHARACTERS = 100, 2_000_000

#: Executes an enqueued run, here or elsewhere, and returns its result.
Execute: TypeAlias = Callable[[str], Awaitable[A]]
#: What a run is, as `db.queue.enqueue` takes it. Raises `LLMCommonError` where it cannot be one.
Prepare: TypeAlias = Callable[["Item"], Awaitable[Mapping[str, Json]]]


@dataclass(frozen=True, slots=True)
class Item:
    """One of many: the arguments of `run` that differ. `idempotency_key` None: made of the content, models and spec."""

    bill_id: str
    bill_text: str = field(repr=False)
    jurisdiction: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """An item in the queue, or the `error` for which it is not. `position` counts the items, from 0.

    `status` is "completed" where an earlier run has the result already, "running" where somebody is at it.
    """

    position: int
    bill_id: str
    run_id: str | None = None
    status: RunStatus | None = None
    error: LLMCommonError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[A]):
    """What became of the item at `position`: an analysis or an error, never both. `run_id` None: there is no run."""

    position: int
    bill_id: str
    run_id: str | None = None
    analysis: A | None = None
    error: Exception | None = None

    def answer(self) -> A:
        """The analysis. Raises the error where there is none."""
        if self.analysis is None:
            raise self.error or InvalidInputError(f"result {self.position} has neither an analysis nor an error")
        return self.analysis


def content_key(run: Mapping[str, Json]) -> str:
    """The idempotency key of a run that was given none: the same input, models and spec are the same run."""
    text = json.dumps(run, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"content:{hashlib.sha256(text.encode()).hexdigest()}"


async def enqueue_items(items: Iterable[Item], prepare: Prepare, queue: QueueFunctions) -> AsyncGenerator[Enqueued]:
    """Enqueues items as it reads them. One that cannot be a run comes with its error."""
    numbers = count()
    waiting = iter(items)
    # Items may be files: they are read on a thread.
    while chunk := await asyncio.to_thread(_chunk, waiting):
        runs: list[Mapping[str, Json]] = []
        places: list[tuple[int, str]] = []
        for item in chunk:
            position = next(numbers)
            try:
                runs.append(await prepare(item))
                places.append((position, item.bill_id))
            except LLMCommonError as error:
                yield Enqueued(position=position, bill_id=item.bill_id, error=error)
        for (position, bill_id), known in zip(places, await queue.enqueue(runs), strict=True):
            if known.refused is not None:
                yield Enqueued(position=position, bill_id=bill_id, error=InvalidInputError(known.refused))
            else:
                yield Enqueued(position=position, bill_id=bill_id, run_id=known.run_id, status=known.status)


async def stream_results(
    runs: AsyncGenerator[Enqueued], execute: Execute[A], *, concurrency: int
) -> AsyncGenerator[RunResult[A]]:
    """Results as they come. At most `concurrency` runs are in hand, and as many results wait to be taken.

    What one raises is in its result, and stops none of the others. Leaving the iteration cancels those in hand.
    """
    results: asyncio.Queue[RunResult[A] | None] = asyncio.Queue()
    taken, slots = asyncio.Semaphore(2 * concurrency), asyncio.Semaphore(concurrency)

    async def one(run: Enqueued, run_id: str) -> None:
        try:
            results.put_nowait(await _result(run, run_id, execute))
        finally:
            slots.release()

    async def all_of_them() -> None:
        async with aclosing(runs), asyncio.TaskGroup() as group:
            async for run in runs:
                await taken.acquire()
                if run.run_id is None:
                    results.put_nowait(RunResult(position=run.position, bill_id=run.bill_id, error=run.error))
                    continue
                await slots.acquire()
                group.create_task(one(run, run.run_id))

    working = asyncio.ensure_future(all_of_them())
    working.add_done_callback(lambda _: results.put_nowait(None))
    try:
        while (result := await results.get()) is not None:
            taken.release()
            yield result
        await working
    except ExceptionGroup as failed:
        # What one run raises is in its result, so this is what reading or enqueueing the items raised.
        raise failed.exceptions[0] from None
    finally:
        working.cancel()
        await asyncio.wait({working})


async def _result(run: Enqueued, run_id: str, execute: Execute[A]) -> RunResult[A]:
    try:
        analysis = await execute(run_id)
        return RunResult(position=run.position, bill_id=run.bill_id, run_id=run_id, analysis=analysis)
    except Exception as error:  # noqa: BLE001 (handed over in the result: one bad item must not lose the others)
        return RunResult(position=run.position, bill_id=run.bill_id, run_id=run_id, error=error)


def _chunk(waiting: Iterator[Item]) -> list[Item]:
    chunk: list[Item] = []
    characters = 0
    for item in waiting:
        chunk.append(item)
        characters += len(item.bill_text)
        if len(chunk) == _CHUNK or characters >= _CHUNK_CHARACTERS:
            break
    return chunk
