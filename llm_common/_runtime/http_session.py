"""HTTP sessions of aiohttp, as all our clients of foreign services have them."""

from collections.abc import Mapping, Sequence

import aiohttp
from aiohttp import ClientMiddlewareType

from llm_common._runtime.fork import new_socket

__all__ = ["CONNECT_SECONDS", "new_session"]

#: A connection that is not there by then will not come; the rest of a call's time is the service's.
CONNECT_SECONDS = 10.0
_KEEP_IDLE_SECONDS = 30.0
_LONGEST_HEADER = 64 * 1024


def new_session(
    connections: int,
    *,
    headers: Mapping[str, str] | None = None,
    middlewares: Sequence[ClientMiddlewareType] = (),
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """A session of the running loop with a keep-alive pool of at most `connections`, and without cookies."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, keepalive_timeout=_KEEP_IDLE_SECONDS, ttl_dns_cache=60, socket_factory=new_socket
        ),
        headers=headers,
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
