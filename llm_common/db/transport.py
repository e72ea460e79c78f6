"""What a transport is: something that calls a SQL function by name, with named arguments, and returns its JSON."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = ["Call", "Execute", "Json", "SqlTransport", "Transport"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: `await call("reserve_cost", {"call": {...}})` gives what the SQL function returns, as JSON values.
Call: TypeAlias = Callable[[str, Mapping[str, Json]], Awaitable[Json]]

#: `await execute(b"SELECT ...", [1])` gives the rows. Without parameters, several statements are allowed.
Execute: TypeAlias = Callable[[bytes, Sequence[str]], Awaitable[list[tuple[Any, ...]]]]


class Transport(Protocol):
    """One way to reach the SQL functions. Raises nothing but `LLMCommonError`s (see `db/errors.py`)."""

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class SqlTransport(Transport, Protocol):
    """A transport that can run any SQL, as migrations need."""

    def transaction(self) -> AbstractAsyncContextManager[Execute]:
        """One transaction: committed at the end, rolled back by an exception."""
        ...
