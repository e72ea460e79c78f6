"""The search services that are no model providers too: Tavily, Brave, Exa and SearXNG, on loopback.

They refuse what the real ones refuse, answer in their words, and are documented where the clients are:
`llm_common.search.providers.tavily`, `.brave`, `.exa` and `.searxng`.
"""

import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

from aiohttp import web

from llm_common.testing.default_answers import default_search_answer
from llm_common.testing.wire import Json, SearchRequest

__all__ = ["FakeSearchServices", "SearchServiceName", "ServiceReply", "ServiceRequest"]

SearchServiceName = Literal["tavily", "brave", "exa", "searxng"]


@dataclass(frozen=True, slots=True)
class ServiceReply:
    """An answer as it is sent: a JSON body, or bytes of any kind."""

    body: Json | bytes = field(default_factory=dict[str, Any])
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """One request that arrived: the parameters of its address or of its body. The key is left out."""

    service: SearchServiceName
    method: str
    path: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Wire:
    """How one service is asked and answers. `allowed` are the parameters that it is known to take."""

    method: str
    path: str
    query: str
    count: str
    most: int
    allowed: frozenset[str]
    key_of: Callable[[Mapping[str, str]], str]
    hits: Callable[[Sequence[Mapping[str, Any]]], Json]
    error: Callable[[int, str, str], Json]


def _bearer(headers: Mapping[str, str]) -> str:
    return headers.get("Authorization", "").removeprefix("Bearer ")


def _tavily_hits(results: Sequence[Mapping[str, Any]]) -> Json:
    hits = [
        {"title": hit["title"], "url": hit["link"], "content": hit["content"], "score": 0.9, "raw_content": None}
        for hit in results
    ]
    return {"query": "", "answer": None, "images": [], "results": hits, "response_time": 1.1, "request_id": "r"}


def _brave_hits(results: Sequence[Mapping[str, Any]]) -> Json:
    hits = [
        {"title": hit["title"], "url": hit["link"], "description": hit["content"], "page_age": "2026-10-01T00:00:00"}
        for hit in results
    ]
    found: Json = {"type": "search", "query": {"original": "", "more_results_available": False}}
    return {**found, "web": {"type": "search", "results": hits}} if hits else found


def _exa_hits(results: Sequence[Mapping[str, Any]]) -> Json:
    hits = [
        {
            "id": hit["link"],
            "title": hit["title"],
            "url": hit["link"],
            "publishedDate": "2026-10-01T00:00:00.000Z",
            "author": None,
            "score": 0.35,
            "highlights": [hit["content"], "And more."],
            "highlightScores": [0.5, 0.4],
        }
        for hit in results
    ]
    return {"requestId": "r", "resolvedSearchType": "neural", "results": hits, "costDollars": {"total": 0.007}}


def _searxng_hits(results: Sequence[Mapping[str, Any]]) -> Json:
    hits = [
        {
            "title": hit["title"],
            "url": hit["link"],
            "content": hit["content"],
            "publishedDate": "2026-10-01T00:00:00",
            "engine": "duckduckgo",
            "engines": ["duckduckgo"],
            "score": 1.0,
        }
        for hit in results
    ]
    return {"query": "", "number_of_results": 0, "results": hits, "answers": [], "unresponsive_engines": []}


_WIRES: Final[Mapping[SearchServiceName, _Wire]] = {
    "tavily": _Wire(
        "POST",
        "/search",
        "query",
        "max_results",
        20,
        frozenset({"query", "search_depth", "max_results", "include_domains", "time_range"}),
        _bearer,
        _tavily_hits,
        lambda _status, _code, message: {"detail": {"error": message}},
    ),
    "brave": _Wire(
        "GET",
        "/web/search",
        "q",
        "count",
        20,
        frozenset({"q", "count", "freshness", "result_filter", "text_decorations"}),
        lambda headers: headers.get("X-Subscription-Token", ""),
        _brave_hits,
        lambda status, code, message: {
            "type": "ErrorResponse",
            "error": {"id": "e", "status": status, "code": code, "detail": message, "meta": {}},
            "time": 1_795_000_000,
        },
    ),
    "exa": _Wire(
        "POST",
        "/search",
        "query",
        "numResults",
        100,
        frozenset({"query", "type", "numResults", "contents", "includeDomains", "startPublishedDate"}),
        lambda headers: headers.get("x-api-key", ""),
        _exa_hits,
        lambda _status, code, message: {"requestId": "r", "error": message, "tag": code},
    ),
    "searxng": _Wire(
        "GET",
        "/search",
        "q",
        "",
        10,
        frozenset({"q", "format", "time_range"}),
        lambda _headers: "",
        _searxng_hits,
        lambda _status, _code, message: {"error": message},
    ),
}


class FakeSearchServices:
    """All four on one port: `async with FakeSearchServices() as services:`, then `services.environment()`.

    They answer with made-up results, or with what `script` was given.
    """

    def __init__(self) -> None:
        #: The key that they accept. Random, so that a test can look for it where it must not be.
        self.api_key: Final = f"fake-{secrets.token_hex(12)}"
        self.requests: list[ServiceRequest] = []
        self._script: dict[SearchServiceName, deque[ServiceReply]] = {name: deque() for name in _WIRES}
        self._runner: web.AppRunner | None = None
        self._port = 0

    def url(self, service: SearchServiceName) -> str:
        """The base URL of one of them."""
        return f"http://127.0.0.1:{self._port}/{service}"

    def environment(self) -> dict[str, str]:
        """The variables that lead this package here."""
        return {
            "TAVILY_API_KEY": self.api_key,
            "BRAVE_API_KEY": self.api_key,
            "EXA_API_KEY": self.api_key,
            "TAVILY_API_BASE": self.url("tavily"),
            "BRAVE_API_BASE": self.url("brave"),
            "EXA_API_BASE": self.url("exa"),
            "SEARXNG_BASE_URL": self.url("searxng"),
        }

    def script(self, service: SearchServiceName, *replies: ServiceReply) -> None:
        """Use `replies` for the next requests that `service` accepts, in order."""
        self._script[service].extend(replies)

    def asked(self, service: SearchServiceName) -> list[Mapping[str, Any]]:
        """What `service` was asked, in order."""
        return [request.fields for request in self.requests if request.service == service]

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{service}/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        service = next((name for name in get_args(SearchServiceName) if name == request.match_info["service"]), None)
        if service is None:
            return web.json_response({}, status=404)
        raw = await request.read()
        fields: Json = dict(request.query) if request.method == "GET" else json.loads(raw)
        path = f"/{request.match_info['path']}"
        self.requests.append(ServiceRequest(service, request.method, path, fields))
        reply = self._decide(service, request.method, path, request.headers, fields)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(body=body, status=reply.status, headers=reply.headers, content_type="application/json")

    def _decide(
        self, service: SearchServiceName, method: str, path: str, headers: Mapping[str, str], fields: Json
    ) -> ServiceReply:
        wire = _WIRES[service]
        if (method, path) != (wire.method, wire.path):
            return ServiceReply(wire.error(404, "NOT_FOUND", "Not Found"), 404)
        if service != "searxng" and wire.key_of(headers) != self.api_key:
            code = {"brave": "SUBSCRIPTION_TOKEN_INVALID", "exa": "INVALID_API_KEY"}.get(service, "")
            status = 422 if service == "brave" else 401
            return ServiceReply(wire.error(status, code, "The key is missing or invalid."), status)
        wrong = _what_is_wrong(service, wire, fields)
        if wrong:
            status = 422 if service == "brave" else 403 if wrong == "format" else 400
            return ServiceReply(wire.error(status, "VALIDATION", f"Unable to validate {wrong}"), status)
        if self._script[service]:
            return self._script[service].popleft()
        count = int(fields.get(wire.count, wire.most))
        return ServiceReply(wire.hits(default_search_answer(SearchRequest(query=fields[wire.query], count=count))))


def _what_is_wrong(service: SearchServiceName, wire: _Wire, fields: Json) -> str | None:
    """The parameter that the service would not take; None for none."""
    unknown = set(fields) - wire.allowed
    if unknown:
        return min(unknown)
    if not fields.get(wire.query):
        return wire.query
    if service == "searxng" and fields.get("format") != "json":
        return "format"
    if wire.count and not 1 <= int(fields[wire.count]) <= wire.most:
        return wire.count
    known_ranges = {
        "time_range": {"day", "week", "month", "year"},
        "freshness": {"pd", "pw", "pm", "py"},
    }
    return next(
        (name for name, known in known_ranges.items() if fields.get(name, next(iter(known))) not in known), None
    )
