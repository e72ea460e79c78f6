"""One HTTP session per event loop, closed with its loop whether or not the host remembers to."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence

import aiohttp
from aiohttp import ClientMiddlewareType

__all__ = ["CONNECT_SECONDS", "Sessions", "new_session"]

#: A connection that is not there by then will not come; the rest of a call's time is the model's.
CONNECT_SECONDS = 10.0
_KEEP_IDLE_SECONDS = 30.0
_LONGEST_HEADER = 64 * 1024


class Sessions:
    """`await get()` gives the running loop's session; `await aclose()` closes it.

    A host that calls `asyncio.run` for each request never closes anything. So each session is tied to an async
    generator of its loop: `asyncio.run` (and every other runner) closes those before it closes the loop.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self._by_loop: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None]]] = {}
        # Several threads, each with a loop of its own, may come at the same time.
        self._guard = threading.Lock()

    def held(self) -> aiohttp.ClientSession | None:
        """The running loop's session, where there is one."""
        held = self._by_loop.get(asyncio.get_running_loop())
        return None if held is None else held[0]

    async def get(self) -> aiohttp.ClientSession:
        """The running loop's session, made first where there is none."""
        if held := self.held():
            return held
        loop = asyncio.get_running_loop()
        session = self._make()
        keeper = self._until_the_loop_ends(loop, session)
        with self._guard:
            self._forget_closed_loops()
            self._by_loop[loop] = session, keeper
        # Runs to its first yield without giving way, so no second task can come between.
        await anext(keeper)
        return session

    async def aclose(self) -> None:
        """Close the running loop's session with its connections. The next `get` makes another."""
        with self._guard:
            held = self._by_loop.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[1].aclose()

    async def _until_the_loop_ends(
        self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._guard:
                if loop in self._by_loop and self._by_loop[loop][0] is session:
                    del self._by_loop[loop]
            await session.close()

    def _forget_closed_loops(self) -> None:
        """A loop that was closed by hand, without its generators: let go of it without a warning."""
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            session, _ = self._by_loop.pop(loop)
            connector = session.connector
            session.detach()
            if connector is not None:
                for _ in connector.close().__await__():  # nothing to wait for: its loop is gone
                    pass


def new_session(
    connections: int, *, middlewares: Sequence[ClientMiddlewareType] = (), traces: Sequence[aiohttp.TraceConfig] = ()
) -> aiohttp.ClientSession:
    """A session with a keep-alive pool of at most `connections`, and without cookies."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEP_IDLE_SECONDS, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
        middlewares=middlewares,
        trace_configs=list(traces),
    )
    # Unasked, aiohttp sends a GET again whose connection was closed: a second paid request that nobody counts.
    session._retry_connection = False  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return session
