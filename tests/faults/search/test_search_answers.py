"""Whatever a search service answers over HTTP: hits or a typed error, no request that cannot help, no secret."""

import asyncio
import gzip
import json
import logging
import re
import traceback
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_common.exceptions import ConfigurationError, SearchError
from llm_common.search.providers.http import HttpProvider
from llm_common.search.providers.registry import SERVICES
from llm_common.search.query import SearchRequest
from llm_common.search.result import SearchResult
from llm_common.settings import Settings
from llm_common.web_search import RetryPolicy, WebSearchClient

KEY = "mark-Key/0123456789+abc"
QUERY = "mark of my secret question"
QUICK = RetryPolicy(base_wait=0.0)


@asynccontextmanager
async def service(answer: bytes):
    """A server that gives the same bytes to everybody, and the requests that it got."""
    asked: list[bytes] = []

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            asked.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await server.wait_closed()


async def outcome_of(name, answer):
    """What a search comes to, and how often the service was asked for it."""
    async with (
        service(answer) as (url, asked),
        WebSearchClient(KEY, provider=name, base_url=url, retries=QUICK) as search,
    ):
        try:
            outcome = await search.lookup(QUERY)
        except SearchError as error:
            outcome = error
        return outcome, len(asked), search.ledger.spent_today_nano


def response(status=200, body=b"{}", headers=(), reason=b"X"):
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *[name + b": " + value for name, value in headers]]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"Connection: close", b"", body])


def hits_of(name, *hits):
    found = {"brave": {"type": "search", "web": {"results": hits}}, "zai": {"search_result": hits}}
    return json.dumps(found.get(name, {"results": hits})).encode()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1113", "1302", KEY])
NAMES = st.sampled_from(
    [
        "results",
        "search_result",
        "web",
        "type",
        "url",
        "link",
        "title",
        "error",
        "code",
        "message",
        "detail",
        "meta",
        "tag",
    ]
)
JSON = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(NAMES, v, max_size=4), max_leaves=12)
BODIES = st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode())
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Retry-After", b"Content-Type", b"Content-Encoding", b"Location", b"Set-Cookie", b"X-Odd"]),
        st.sampled_from([b"0", b"-1", b"soon", b"gzip", b"br", b"text/html; charset=nope", b"http://[", b"\xff\xfe"])
        | st.binary(max_size=10).filter(lambda value: not set(value) & set(b"\r\n\x00")),
    ),
    max_size=3,
)
STATUSES = st.sampled_from([200, 201, 204, 301, 307, 400, 401, 402, 403, 404, 408, 429, 432, 500, 503, 599, 999])
RESPONSES = st.builds(response, STATUSES, BODIES, HEADERS) | st.binary(max_size=80)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(st.sampled_from(sorted(SERVICES)), RESPONSES)
def test_any_answer_is_hits_or_a_typed_error(name, answer):
    """Any bytes, status and headers; never more than three requests, and one where the error says so."""
    found, requests, _ = asyncio.run(outcome_of(name, answer))
    if isinstance(found, SearchError):
        assert requests <= (3 if found.retryable else 1)
        assert KEY not in str(found)
        assert KEY not in repr(vars(found))
    else:
        assert requests <= 3
        assert all(isinstance(hit, SearchResult) for hit in found.results)


@MANY
@given(st.sampled_from(sorted(SERVICES)), st.sampled_from([200, 201, 301, 307, 400, 401, 402, 404, 422]), JSON)
def test_a_second_request_is_not_paid_where_it_cannot_help(name, status, body):
    """A refusal, a redirect and JSON of another shape are final, but where the service says that it is only busy."""
    busy = '"1302"' in json.dumps(body) or '"1303"' in json.dumps(body) or "unresponsive" in json.dumps(body)
    _, requests, spent = asyncio.run(outcome_of(name, response(status, json.dumps(body).encode())))
    assert requests == 1 or busy
    assert spent == 0 or not 300 <= status < 500


def test_a_parser_that_trusts_its_service_is_found_out(monkeypatch):
    """The control: a service whose hits are read without looking lets a foreign error through."""
    from llm_common.search.providers import registry

    careless = replace(SERVICES["exa"], hits=lambda body: body["results"]["list"])
    monkeypatch.setattr(registry, "SERVICES", {**SERVICES, "exa": careless})
    with pytest.raises((KeyError, TypeError)):
        asyncio.run(outcome_of("exa", response(body=b'{"results": []}')))


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000 + b"\r\n\r\n{}",
        b"HTTP/3.7 200 OK\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_http_is_a_broken_connection(name, answer):
    """Cut, garbled, endless or not HTTP at all: a typed error after at most three requests."""
    found, requests, _ = await outcome_of(name, answer)
    assert isinstance(found, SearchError)
    assert requests <= 3


async def test_an_answer_that_unfolds_without_end_is_not_read_to_its_end():
    """A gigabyte in a compressed megabyte is refused after four megabytes, and not asked for again."""
    packed = gzip.compress(b" " * 2**28, 9)
    found, requests, _ = await outcome_of("exa", response(body=packed, headers=[(b"Content-Encoding", b"gzip")]))
    assert isinstance(found, SearchError)
    assert "longer than 4 MiB" in str(found)
    assert requests == 1


# --- secrets


def everything_about(error):
    """What an error tracker shows: messages, attributes, and the frames with their local variables."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(told.format()) + repr(error) + repr(vars(error))


def frames_of_ours(error):
    """The same, without the frames of the test itself, which hold the secret as it is."""
    lines = everything_about(error)
    return "\n".join(part for part in lines.split('  File "') if "/tests/" not in part.split('"')[0])


ECHOES = [
    f"the key {KEY} and the query {QUERY} are wrong",
    "GET /search?q=mark+of+my+secret+question&key=mark-Key%2F0123456789%2Babc",
    "Q=MARK%20OF%20MY%20SECRET%20QUESTION k=mark-key/0123456789+ABC",
]
SECRET = re.compile(r"mark-key|0123456789|secret.question", re.IGNORECASE)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 402, 429, 500])
@pytest.mark.parametrize("echo", ECHOES)
async def test_a_service_that_repeats_key_and_query_is_not_repeated(name, status, echo, caplog):
    """In no form: not in the error, its attributes, its causes, its frames, nor in the log."""
    caplog.set_level(logging.DEBUG)
    error = {
        "error": {"code": KEY, "message": echo, "detail": echo, "meta": echo},
        "detail": {"error": echo},
        "tag": KEY,
    }
    body = json.dumps(error if name not in {"exa", "searxng"} else {**error, "error": echo}).encode()
    found, *_ = await outcome_of(name, response(status, body, [(b"Location", echo.encode())]))
    assert isinstance(found, SearchError)
    assert not SECRET.search(f"{found} {found.code} {vars(found)}")
    assert KEY not in frames_of_ours(found)
    assert not SECRET.search(" ".join(record.getMessage() for record in caplog.records if record.name != "asyncio"))


@pytest.mark.parametrize("name", SERVICES)
async def test_a_hit_that_repeats_the_key_does_not_take_it_along(name):
    """Hits go into prompts and tables."""
    fields = SERVICES[name].fields
    hit = {fields.url: f"https://a.gov/?k={KEY}", fields.title: KEY, fields.snippet: f"x {KEY} y", "age": KEY}
    found, *_ = await outcome_of(name, response(body=hits_of(name, hit)))
    assert KEY not in repr(found)
    assert found.results[0].title == "[redacted]"


@pytest.mark.parametrize("answer", [b"", b"garbage", response(500), response(302)])
async def test_a_password_in_the_address_is_used_and_told_to_nobody(answer):
    """SearXNG behind a gate: it goes into the header, and into no error, identity, log or repr."""
    async with service(answer) as (url, asked):
        address = url.replace("http://", "http://user:pass%20word@")
        provider = HttpProvider(SERVICES["searxng"], "", address)
        with pytest.raises(SearchError) as failure:
            await provider.search(SearchRequest("q"), timeout=5)
        await provider.aclose()
        assert b"Basic dXNlcjpwYXNzIHdvcmQ=" in asked[0]
        assert b"pass" not in asked[0].split(b"\r\n")[0]
    shown = frames_of_ours(failure.value) + repr(provider) + str(provider.identity)
    shown += repr(Settings.from_environment({"SEARXNG_BASE_URL": address}))
    assert not re.search(r"pass.{0,3}word|dXNlcjpwYXNz", shown)


async def test_nothing_listens_and_the_password_stays_where_it_is():
    """A connection that is refused names the host, and shows no header in any frame."""
    provider = HttpProvider(SERVICES["searxng"], "", "http://user:hidden-word@127.0.0.1:1")
    with pytest.raises(SearchError, match=r"SearXNG at 127\.0\.0\.1:1 cannot be reached") as failure:
        await provider.search(SearchRequest("q"), timeout=5)
    await provider.aclose()
    assert "hidden-word" not in frames_of_ours(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "sk-mark-0123456789",
        "ftp://user:mark-0123456789@host",
        "https://",
        "https://user:mark-0123456789@",
        "https://[::1",
        "https://host:mark-0123456789",
        "https://host/path?key=mark-0123456789",
        "https://host/mark-0123456789\n",
    ],
)
@pytest.mark.parametrize("name", SERVICES)
async def test_an_address_that_is_none_is_refused_without_being_shown(name, url):
    """It may be a key in the wrong place; the error names the variable."""
    async with WebSearchClient(KEY, provider=name, base_url=url) as search:
        with pytest.raises(ConfigurationError, match=re.escape(SERVICES[name].url_variables[0])) as failure:
            await search.search("q")
    assert "0123456789" not in str(failure.value)
    assert KEY not in frames_of_ours(failure.value)


@pytest.mark.parametrize("key", ["schlüssel-mark", "mark\x00", "mark mark\n\nx"])
async def test_a_key_that_no_header_takes_is_refused_without_being_shown(key):
    """Copied with a line break or a letter too much."""
    with pytest.raises(ConfigurationError, match="copy it again") as failure:
        HttpProvider(SERVICES["exa"], key)
    assert "mark" not in str(failure.value)
    assert repr(key)[1:-1] not in frames_of_ours(failure.value)
