"""A search service over HTTP: no redirects, a bounded body, our errors.

The key goes to the address that the settings name, and nowhere else.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohttp

from llm_common._runtime.http_session import CONNECT_SECONDS, new_session
from llm_common._runtime.per_loop import PerLoop
from llm_common._text.redaction import Secret
from llm_common.exceptions import ConfigurationError, SearchError
from llm_common.search.providers.facts import ProviderFacts
from llm_common.search.providers.parsing import Exchange, read_answer, read_refusal
from llm_common.search.providers.protocol import NOT_SENT, ProviderAnswer
from llm_common.search.query import SearchRequest

__all__ = ["HttpProvider"]

#: Fifty results with their summaries are well below; what is longer is not an answer.
_MAX_BODY_BYTES: Final = 4 * 2**20
#: aiohttp's own 100 would have a crowd of searches wait in line for a connection, and lose their time there.
_CONNECTIONS: Final = 1000


class HttpProvider:
    """A `SearchProvider` for the service of `facts`.

    `base_url` is what precedes its path; an address with the path will do, and so will one with a user and a password
    for an instance that asks for them. An answer from another address is never cached as if it were the service's own.
    """

    def __init__(self, facts: ProviderFacts, api_key: str = "", base_url: str | None = None) -> None:
        # Whatever is raised here shows no secret, also not with the local variables of these frames.
        api_key, base_url = Secret(api_key), Secret(base_url or facts.base_url or "")
        address = _address(base_url, facts)
        self._facts = facts
        self._host = address.host
        self._url = f"{address.base}{facts.path}"
        self._headers, self._secrets = _credentials(facts, api_key, address)
        self.name = facts.name
        self.engine = facts.engine
        self.abilities = facts.abilities
        self.price_usd = facts.price_usd
        self.identity: str | None = self.name if address.base == facts.base_url else f"{self.name}@{self._url}"
        self._sessions = PerLoop(partial(new_session, _CONNECTIONS), aiohttp.ClientSession.close)

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:
        outcome = await self._ask(request, timeout)
        if isinstance(outcome, SearchError):
            raise outcome
        return ProviderAnswer(outcome.results[: request.count], outcome.skipped)

    async def _ask(self, request: SearchRequest, timeout: float) -> ProviderAnswer | SearchError:
        exchange = Exchange(self._facts, self._secrets, request.text)
        try:
            status, headers, raw = await self._fetch(request, timeout)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return self._failure("cannot be reached; check the network and the base URL", error, NOT_SENT)
        except TimeoutError as error:
            return self._failure(f"gave no answer within {timeout:.1f} s", error)
        except (aiohttp.ClientError, OSError) as error:
            return self._failure(f"broke the connection ({type(error).__name__})", error)
        if len(raw) > _MAX_BODY_BYTES:
            longest = f"is longer than {_MAX_BODY_BYTES // 2**20} MiB; it was not read to its end"
            return exchange.error(longest, status=status)
        return read_answer(exchange, raw) if status == HTTPStatus.OK else read_refusal(exchange, status, headers, raw)

    async def _fetch(self, request: SearchRequest, timeout: float) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body, of which a little more than what is allowed is read."""
        outgoing = self._facts.encode(request)
        async with self._sessions.get().request(
            outgoing.method,
            self._url,
            headers=self._headers,
            params=outgoing.params,
            json=outgoing.body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout, connect=min(timeout, CONNECT_SECONDS)),
        ) as response:
            raw = bytearray()
            async for chunk in response.content.iter_any():
                raw += chunk
                if len(raw) > _MAX_BODY_BYTES:
                    break
            return response.status, response.headers, bytes(raw)

    def _failure(self, what: str, cause: Exception, code: str | None = None) -> SearchError:
        text = f"{self._facts.label} at {self._host} {what}"
        failure = SearchError(text, provider=self.name, code=code, retryable=True)
        failure.__cause__ = _bare(cause)
        return failure

    async def aclose(self) -> None:
        await self._sessions.aclose()


@dataclass(frozen=True, slots=True)
class _Address:
    """A base URL without the service's path, its host with the port, and who signs in there."""

    base: str
    host: str
    user: Secret
    password: Secret | None


def _address(url: Secret, facts: ProviderFacts) -> _Address:
    address = _read_address(url, facts.path)
    if address is None:
        variables = " or ".join(facts.url_variables)
        raise ConfigurationError(
            f"the base URL for {facts.name} (base_url, or {variables}) must begin with http:// or https:// and name a "
            "host, without a query. It is not shown: it may hold a password, or be a key in the wrong place"
        )
    return address


def _read_address(url: str, path: str) -> _Address | None:
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            return None
    except ValueError:
        return None
    if parts.query or parts.fragment or not url.isprintable() or " " in url:
        return None
    host = parts.netloc.rpartition("@")[2]
    return _Address(
        base=f"{parts.scheme}://{host}{parts.path.rstrip('/').removesuffix(path)}",
        host=host,
        user=Secret(unquote(parts.username or "")),
        password=None if parts.password is None else Secret(unquote(parts.password)),
    )


def _credentials(facts: ProviderFacts, key: Secret, to: _Address) -> tuple[Mapping[str, str], tuple[Secret, ...]]:
    """The headers that carry key or password, and what must not be repeated of them."""
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"the key for {facts.name} has characters that no HTTP header takes; copy it again")
    headers = {name: Secret(value) for name, value in facts.headers(key).items()}
    json = {"Accept": "application/json"}
    if to.password is None:
        return {**json, **headers}, (key,) if key else ()
    if headers:
        raise ConfigurationError(f"a key and a password in the base URL are given for {facts.name}; pass one of them")
    token = Secret(b64encode(f"{to.user}:{to.password}".encode()).decode())
    return {**json, "Authorization": Secret(f"Basic {token}")}, tuple(filter(None, (token, to.password)))


def _bare(error: BaseException) -> BaseException:
    """The error without its frames: aiohttp's hold the headers, and error trackers show local variables."""
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error
