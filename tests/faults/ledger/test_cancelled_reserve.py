import asyncio
from contextlib import AsyncExitStack

import httpx
import psycopg
import pytest
from psycopg_pool import ConnectionPool
from supabase import AsyncClientOptions, create_async_client

from llm_common.cost_tracker import CostTracker
from llm_common.models import PlannedCall
from tests.contract.rpc_server import RpcServer

_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_HELD = "SELECT count(*) FROM cost_reservations"


async def source(stack, transport, dsn):
    if transport == "supabase":
        server = await stack.enter_async_context(RpcServer(dsn, "anon", "service"))
        session = await stack.enter_async_context(httpx.AsyncClient())
        return await create_async_client(server.url, server.service_key, AsyncClientOptions(httpx_client=session))
    if transport == "sync pool":
        return stack.enter_context(ConnectionPool(dsn, min_size=2, open=False))
    return dsn


@pytest.mark.parametrize("transport", ["psycopg", "supabase", "sync pool"])
async def test_a_reserve_that_is_cancelled_on_its_way_is_given_back(transport, dsn):
    """Whoever is cancelled while the reserve waits at the gate leaves nothing held, over each transport."""
    async with AsyncExitStack() as stack:
        gate = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
        watcher = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn, autocommit=True))

        async def count(query):
            return (await (await watcher.execute(query)).fetchone())[0]

        tracker = CostTracker(await source(stack, transport, dsn), project="p")
        await stack.enter_async_context(tracker)
        await gate.execute("SELECT public.cost_gate('p')")
        call = PlannedCall(kind="chat", model="m", provider="x", bound_nano=10)
        reserving = asyncio.create_task(tracker.reserve(call))
        async with asyncio.timeout(10):
            while not await count(_WAITING):
                await asyncio.sleep(0.01)
        reserving.cancel()
        await asyncio.sleep(0.1)
        await gate.rollback()
        with pytest.raises(asyncio.CancelledError):
            await reserving
        assert await count(_HELD) == 0
