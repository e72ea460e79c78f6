"""Runs several works at once, where finished work is worth keeping."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["bounded_gather"]

T = TypeVar("T")


async def bounded_gather(works: Sequence[Callable[[], Awaitable[T]]], at_once: int) -> list[T]:
    """The results in order. After an error nothing new is begun; what was begun is finished, then the error is raised.

    What is under way when something fails has been paid for, and its checkpoint serves the next attempt.
    Cancelling cancels all of it.
    """
    if len(works) == 1:
        return [await works[0]()]
    slots = asyncio.Semaphore(at_once)
    errors: list[BaseException] = []
    results: dict[int, T] = {}

    async def one(number: int, work: Callable[[], Awaitable[T]]) -> None:
        async with slots:
            if errors:
                return
            try:
                results[number] = await work()
            except BaseException as error:
                errors.append(error)
                raise

    await asyncio.gather(*(one(number, work) for number, work in enumerate(works)), return_exceptions=True)
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(works))]
