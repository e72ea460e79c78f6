"""SQL functions over the host's Supabase client, sync or async: `client.rpc(name, arguments).execute()`.

The client is known by its shape, so nothing of Supabase's is imported here and any version will do.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from llm_common._runtime.fork import fork_safe_lock
from llm_common.db.errors import database_error
from llm_common.db.transport import Json
from llm_common.exceptions import DatabaseUnavailableError, InvalidInputError, LLMCommonError

__all__ = ["SupabaseClient", "SupabaseTransport"]


class _Request(Protocol):
    def execute(self) -> Any: ...


class SupabaseClient(Protocol):
    """What we need of the host's client."""

    def rpc(self, fn: str, params: dict[str, Any]) -> _Request: ...


# httpx speaks HTTP/2 to Supabase, and httpcore's synchronous HTTP/2 connection is not safe between threads: each
# sync client gets one thread, shared by all who use that client here.
_threads: WeakKeyDictionary[object, ThreadPoolExecutor] = WeakKeyDictionary()
_guard = fork_safe_lock()


class SupabaseTransport:
    """The host's client: used as it is, closed by the host.

    A call on a sync client that was cancelled while it is under way completes in the background.
    """

    def __init__(self, client: SupabaseClient) -> None:
        self._client = client

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json:
        try:
            request = self._client.rpc(function, dict(arguments))
            answer = await self._execute(request)
        except Exception as error:
            # Not chained: the client's error prints DETAIL, with values in it.
            translated = _translated(error)
            if translated is None:
                raise
            raise translated from None
        return cast("Json", answer.data)

    async def aclose(self) -> None:
        """Leaves the client to the host."""

    def _execute(self, request: _Request) -> Awaitable[Any]:
        if inspect.iscoroutinefunction(request.execute):
            return request.execute()
        return asyncio.get_running_loop().run_in_executor(_thread_of(self._client), request.execute)


def _thread_of(client: object) -> ThreadPoolExecutor:
    with _guard:
        if client not in _threads:
            _threads[client] = ThreadPoolExecutor(1, thread_name_prefix="llm-common-supabase")
        return _threads[client]


def _translated(error: Exception) -> LLMCommonError | None:
    """Ours for the client's errors, known by their shape; None for one that is not the client's."""
    if {"code", "message", "details"} <= set(dir(error)):
        code, message, details = (getattr(error, name) for name in ("code", "message", "details"))
        return database_error(_text(code), _text(message) or "no message", _text(details))
    if isinstance(error, UnicodeEncodeError):
        return database_error("22021", "")
    if isinstance(error, ValueError) and "JSON compliant" in str(error):
        return InvalidInputError("the arguments have NaN or infinity in them, which JSON cannot carry")
    if type(error).__module__.partition(".")[0] in {"httpx", "httpcore"}:
        return DatabaseUnavailableError(f"no answer from Supabase: {type(error).__name__}: {error}")
    if isinstance(error, RuntimeError):
        return DatabaseUnavailableError(
            f"the Supabase client cannot be used: {error}. It may be closed; an async one belongs to the event loop "
            "that it was first used on."
        )
    return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
