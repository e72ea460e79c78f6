"""z.ai's web search over HTTP: one request, one answer."""

from decimal import Decimal
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from llm_common.exceptions import ConfigurationError, SearchError
from llm_common.per_loop import PerLoop
from llm_common.search.filters import Abilities
from llm_common.search.provider import NOT_SENT, ProviderAnswer
from llm_common.search.query import SearchRequest
from llm_common.search.zai_wire import ENGINE, parse_answer, refusal, render_request

__all__ = ["DEFAULT_URL", "ZaiProvider"]

DEFAULT_URL: Final = "https://api.z.ai/api/paas/v4"
#: Fifty results with their summaries are well below; what is longer is not an answer.
_MAX_BODY_BYTES = 4 * 2**20
_CONNECT_SECONDS = 10.0


class ZaiProvider:
    """`base_url` is what precedes `/web_search`, without a trailing slash. Redirects are not followed."""

    name = "zai"
    engine = ENGINE
    abilities = Abilities(domains="one", recency=True)
    #: About a cent a search. Source: https://docs.z.ai/guides/overview/pricing
    price_usd = Decimal("0.01")

    def __init__(self, api_key: str, base_url: str = DEFAULT_URL) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(f"base URL {base_url!r} must begin with http:// or https:// and name a host")
        self._key = api_key
        self._url = f"{base_url.rstrip('/')}/web_search"
        # What answers at another address must not be served as z.ai's, and the other way round.
        self.identity = self.name if base_url.rstrip("/") == DEFAULT_URL else f"{self.name}@{self._url}"
        self._sessions = PerLoop(self._open)

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}", "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:
        limits = aiohttp.ClientTimeout(total=timeout, connect=min(timeout, _CONNECT_SECONDS))
        try:
            async with self._sessions.get().post(
                self._url, json=render_request(request), allow_redirects=False, timeout=limits
            ) as response:
                raw = await _body(response)
        except aiohttp.ClientConnectorError as error:
            raise self._failure("cannot be reached; check the network and the base URL", NOT_SENT) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise self._failure("could not be reached in time; check the network and the base URL", NOT_SENT) from error
        except TimeoutError as error:
            raise self._failure(f"gave no answer within {timeout:.1f} s") from error
        except aiohttp.ClientError as error:
            raise self._failure(f"broke the connection ({type(error).__name__})") from error
        if response.status == HTTPStatus.OK:
            return parse_answer(raw)
        raise refusal(response.status, raw, response.headers.get("Retry-After"))

    def _failure(self, what: str, code: str | None = None) -> SearchError:
        return SearchError(f"z.ai at {urlsplit(self._url).netloc} {what}", provider="zai", code=code, retryable=True)

    async def aclose(self) -> None:
        session = self._sessions.pop()
        if session is not None:
            await session.close()


async def _body(response: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > _MAX_BODY_BYTES:
            raise SearchError(
                f"z.ai's answer is longer than {_MAX_BODY_BYTES // 2**20} MiB; it was not read to its end",
                provider="zai",
                status=response.status,
            )
    return bytes(raw)
