"""Many calls at once, each for itself: a bounded number in flight, results in the order of the questions."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llm_common.exceptions import InvalidInputError
from llm_common.llm.hooks import told
from llm_common.models import Completion

__all__ = ["ManyResult", "OnResult", "Request", "ask_all"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question of `complete_many`, with arguments of `complete` that hold for it alone.

    Request("Is it?", {"model": "zai/glm-5.3", "step": "ask"})
    """

    messages: str | Sequence[Mapping[str, Any]]
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyResult:
    """What became of the question at `position`: a completion or the exception that `complete` raised, never both."""

    position: int
    completion: Completion[Any] | None = None
    error: Exception | None = None

    def answer(self) -> Completion[Any]:
        """The completion. Raises the error where there is none."""
        if self.completion is None:
            raise self.error or InvalidInputError(f"result {self.position} has neither a completion nor an error")
        return self.completion


#: Hears of each result as it comes: the result, how many are there, how many there will be. Plain or async.
OnResult: TypeAlias = Callable[[ManyResult, int, int], Awaitable[object] | object]
_Complete = Callable[..., Awaitable[Completion[Any]]]


async def ask_all(
    items: Iterable[Request | str | Sequence[Mapping[str, Any]]],
    complete: _Complete,
    shared: Mapping[str, Any],
    *,
    concurrency: int,
    on_result: OnResult | None,
) -> list[ManyResult]:
    """One result of `complete(messages, **arguments)` for each item, in their order.

    `shared` are the arguments of all items. A cancellation cancels all that are in flight, and waits for them.
    """
    if concurrency < 1:
        raise InvalidInputError(f"concurrency must be at least 1, got {concurrency}")
    if isinstance(items, str):
        raise InvalidInputError("items must be a list of prompts, not one prompt; use complete() for one")
    requests = [item if isinstance(item, Request) else Request(item) for item in items]
    results: dict[int, ManyResult] = {}
    waiting = iter(enumerate(requests))

    async def work(waiting: Iterator[tuple[int, Request]]) -> None:
        for position, request in waiting:
            results[position] = await _result(position, request, complete, shared)
            if on_result is not None:
                await told(on_result, results[position], len(results), len(requests))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(requests))):
            group.create_task(work(waiting))
    return [results[position] for position in range(len(requests))]


async def _result(position: int, request: Request, complete: _Complete, shared: Mapping[str, Any]) -> ManyResult:
    try:
        completion = await complete(request.messages, **_merged(shared, request.arguments))
        return ManyResult(position=position, completion=completion)
    except Exception as error:  # noqa: BLE001 (handed over in the result: one bad question must not lose paid answers)
        return ManyResult(position=position, error=error)


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """An item's own `model` also replaces the shared `models`, and the other way round."""
    if "model" in own or "models" in own:
        shared = {name: value for name, value in shared.items() if name not in {"model", "models"}}
    return {**shared, **own}
