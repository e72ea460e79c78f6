"""The HTTP that search providers share: one session per event loop, no redirects, a bounded body, our errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp

from llm_common._runtime.per_loop import PerLoop
from llm_common.exceptions import ConfigurationError, SearchError
from llm_common.search.filters import Abilities
from llm_common.search.providers.parsing import Service
from llm_common.search.providers.protocol import NOT_SENT, ProviderAnswer
from llm_common.search.query import SearchRequest

__all__ = ["HttpProvider", "Outgoing", "Wire"]

#: Fifty results with their summaries are well below; what is longer is not an answer.
_MAX_BODY_BYTES: Final = 4 * 2**20
_CONNECT_SECONDS: Final = 10.0
#: aiohttp's own 100 would have a crowd of searches wait in line for a connection, and lose their time there.
_CONNECTIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request: its parameters for the address, or its JSON body."""

    method: Literal["GET", "POST"]
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | None = None


class Wire(Protocol):
    """What one service says and understands, without the network. `path` follows the base URL."""

    @property
    def service(self) -> Service: ...

    @property
    def engine(self) -> str: ...

    @property
    def abilities(self) -> Abilities: ...

    @property
    def price_usd(self) -> Decimal: ...

    @property
    def path(self) -> str: ...

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Those that carry the key."""
        ...

    def render(self, request: SearchRequest) -> Outgoing: ...

    def parse(self, raw: bytes) -> ProviderAnswer:
        """The hits in a body that came with status 200. Raises `SearchError` for what is no answer."""
        ...

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        """What an answer with another status means."""
        ...


class HttpProvider:
    """A `SearchProvider` over a wire. `base_url` is what precedes the wire's path; an address with the path will do.

    `default_url` is the service's own, None where it has none. An answer from another address is never cached as if it
    were from there.
    """

    def __init__(self, wire: Wire, api_key: str, base_url: str, *, default_url: str | None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(f"base URL {base_url!r} must begin with http:// or https:// and name a host")
        self._wire = wire
        self._key = api_key
        base = base_url.rstrip("/").removesuffix(wire.path)
        self._url = f"{base}{wire.path}"
        self.name = wire.service.name
        self.engine = wire.engine
        self.abilities = wire.abilities
        self.price_usd = wire.price_usd
        self.identity: str | None = self.name if base == default_url else f"{self.name}@{self._url}"
        self._sessions = PerLoop(self._open)

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            headers={**self._wire.headers(self._key), "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:
        limits = aiohttp.ClientTimeout(total=timeout, connect=min(timeout, _CONNECT_SECONDS))
        outgoing = self._wire.render(request)
        try:
            async with self._sessions.get().request(
                outgoing.method,
                self._url,
                params=outgoing.params,
                json=outgoing.body,
                allow_redirects=False,
                timeout=limits,
            ) as response:
                raw = await self._body(response)
        except aiohttp.ClientConnectorError as error:
            raise self._failure("cannot be reached; check the network and the base URL", NOT_SENT) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise self._failure("could not be reached in time; check the network and the base URL", NOT_SENT) from error
        except TimeoutError as error:
            raise self._failure(f"gave no answer within {timeout:.1f} s") from error
        except aiohttp.ClientError as error:
            raise self._failure(f"broke the connection ({type(error).__name__})") from error
        if response.status != HTTPStatus.OK:
            raise self._wire.refusal(response.status, raw, response.headers)
        answer = self._wire.parse(raw)
        return ProviderAnswer(answer.results[: request.count], answer.skipped)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for chunk in response.content.iter_any():
            raw += chunk
            if len(raw) > _MAX_BODY_BYTES:
                raise SearchError(
                    f"{self._wire.service.label}'s answer is longer than {_MAX_BODY_BYTES // 2**20} MiB; "
                    "it was not read to its end",
                    provider=self.name,
                    status=response.status,
                )
        return bytes(raw)

    def _failure(self, what: str, code: str | None = None) -> SearchError:
        label = self._wire.service.label
        return SearchError(
            f"{label} at {urlsplit(self._url).netloc} {what}", provider=self.name, code=code, retryable=True
        )

    async def aclose(self) -> None:
        session = self._sessions.pop()
        if session is not None:
            await session.close()
