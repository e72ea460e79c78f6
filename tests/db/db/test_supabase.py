"""Supabase clients, known by their shape alone. What they answer over HTTP is in the contract suite."""

import asyncio
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from supabase import AsyncClientOptions, ClientOptions, create_async_client, create_client

from llm_common.db.database import Database
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError
from tests.contract.rpc_server import RpcServer


class Answer:
    def __init__(self, data: Any) -> None:
        self.data = data


class OldSyncClient:
    """A sync client that, as httpx over HTTP/2, must not be used by two threads at once."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self._busy = threading.Lock()

    def rpc(self, fn: str, params: dict[str, Any]) -> "OldSyncClient":
        assert fn
        assert isinstance(params, dict)
        return self

    def execute(self) -> Answer:
        assert self._busy.acquire(blocking=False), "two threads at once"
        self.threads.add(threading.get_ident())
        time.sleep(0.002)
        self._busy.release()
        return Answer(1)


async def test_a_sync_client_is_used_by_one_thread_at_a_time() -> None:
    """Also when several databases are made over the same client; never by the thread of the event loop."""
    client = OldSyncClient()
    databases = [Database.of(client), Database.of(client)]
    answers = await asyncio.gather(*(databases[n % 2].call("f", {}) for n in range(40)))
    assert answers == [1] * 40
    assert threading.get_ident() not in client.threads


async def test_each_client_has_its_own_thread() -> None:
    """A client that hangs does not hold up another one."""

    class Hanging(OldSyncClient):
        gate = threading.Event()

        def execute(self) -> Answer:
            self.gate.wait()
            return Answer(2)

    hanging = Hanging()
    stuck = asyncio.create_task(Database.of(hanging).call("f", {}))
    assert await Database.of(OldSyncClient()).call("f", {}) == 1
    hanging.gate.set()
    assert await stuck == 2


async def test_an_error_that_is_not_the_clients_passes() -> None:
    """A mistake inside the host's own client is not dressed up as a database error."""

    class Mistaken(OldSyncClient):
        def execute(self) -> Answer:
            raise KeyError("oops")

    with pytest.raises(KeyError):
        await Database.of(Mistaken()).call("f", {})


async def test_a_server_that_is_gone() -> None:
    """No answer is `DatabaseUnavailableError`, from the sync and from the async client."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with httpx.AsyncClient() as session:
            client = await create_async_client(url, "key", AsyncClientOptions(httpx_client=session))
            with pytest.raises(DatabaseUnavailableError, match="no answer from Supabase"):
                await Database.of(client).call("f", {})
        with httpx.Client() as session:
            client = create_client(url, "key", ClientOptions(httpx_client=session))
            with pytest.raises(DatabaseUnavailableError, match="no answer from Supabase"):
                await Database.of(client).call("f", {})
        with pytest.raises(DatabaseUnavailableError, match="cannot be used"):
            await Database.of(client).call("f", {})


async def test_a_wrong_or_weak_key_says_which_one_to_use(dsn: str) -> None:
    """A key that is unknown, and the anon key, both lead to the service_role key."""
    async with RpcServer(dsn, "anon", "service") as server, httpx.AsyncClient() as session:
        options = AsyncClientOptions(httpx_client=session)
        wrong = await create_async_client(server.url, "wrong", options)
        with pytest.raises(DatabaseUnavailableError, match="service_role key"):
            await Database.of(wrong).rollout.get("flag")
        weak = await create_async_client(server.url, "anon", options)
        with pytest.raises(DatabaseError, match="service_role key") as caught:
            await Database.of(weak).rollout.get("flag")
        assert caught.value.sqlstate == "42501"


async def test_a_page_of_a_proxy_is_no_answer(dsn: str) -> None:
    """HTML where PostgREST should be is told apart from an error of the database."""
    async with RpcServer(dsn, "anon", "service") as server, httpx.AsyncClient() as session:
        options = AsyncClientOptions(httpx_client=session)
        client = await create_async_client(f"{server.url}/elsewhere", "service", options)
        with pytest.raises(DatabaseError):
            await Database.of(client).rollout.get("flag")
