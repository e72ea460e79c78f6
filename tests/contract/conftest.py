"""One `Database` over each transport."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from supabase import AsyncClientOptions, ClientOptions, create_async_client, create_client

from llm_common.db.database import Database
from tests.contract.rpc_server import RpcServer

_KEYS = ("the-anon-key", "the-service-key")

# What every transport must carry alike.
_FUNCTIONS = """
CREATE FUNCTION public.same(value jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS 'SELECT value';
CREATE FUNCTION public.a_boolean() RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION public.a_bigint() RETURNS bigint LANGUAGE sql AS 'SELECT 9223372036854775807';
CREATE FUNCTION public.a_double() RETURNS double precision LANGUAGE sql AS 'SELECT 0.1::double precision';
CREATE FUNCTION public.a_text() RETURNS text LANGUAGE sql AS $$SELECT 'it''s “text” 🙂'$$;
CREATE FUNCTION public.a_null() RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
CREATE FUNCTION public.a_uuid() RETURNS uuid LANGUAGE sql AS
    $$SELECT '3f2504e0-4f89-11d3-9a0c-0305e82c3301'::uuid$$;
CREATE FUNCTION public.a_moment() RETURNS timestamptz LANGUAGE sql AS
    $$SELECT '2026-11-21 07:00:00.12+00'::timestamptz$$;
CREATE FUNCTION public.a_day() RETURNS date LANGUAGE sql AS $$SELECT '2026-11-21'::date$$;
CREATE FUNCTION public.typed(flag boolean, big bigint, ratio double precision, id uuid, moment timestamptz, day date,
                             word text, items jsonb, nothing text) RETURNS jsonb LANGUAGE sql AS
    'SELECT jsonb_build_array(flag, big, ratio, id, moment, day, word, items, nothing)';
CREATE FUNCTION public.raise_it(code text, message text, detail text) RETURNS void LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail; END';
CREATE TABLE public.kept (word text PRIMARY KEY);
CREATE FUNCTION public.keep(word text) RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.kept VALUES (word); RETURN (SELECT count(*) FROM public.kept); END';
CREATE FUNCTION public.keep_and_fail(word text) RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.kept VALUES (word); RAISE division_by_zero; END';
CREATE FUNCTION public.needs_missing_table() RETURNS bigint LANGUAGE plpgsql AS
    'BEGIN RETURN (SELECT count(*) FROM public.missing); END';
CREATE FUNCTION public.wait_for_lock() RETURNS boolean LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(7) IS NOT NULL';
GRANT ALL ON public.kept TO service_role;
"""


@asynccontextmanager
async def _over_psycopg(dsn: str) -> AsyncIterator[Any]:
    yield dsn


@asynccontextmanager
async def _over_pool(dsn: str) -> AsyncIterator[Any]:
    async with AsyncConnectionPool(dsn, min_size=1, open=False) as pool:
        yield pool


@asynccontextmanager
async def _over_sync_pool(dsn: str) -> AsyncIterator[Any]:
    with ConnectionPool(dsn, min_size=1, open=False) as pool:
        yield pool


@asynccontextmanager
async def _over_supabase(dsn: str) -> AsyncIterator[Any]:
    async with RpcServer(dsn, *_KEYS) as server, httpx.AsyncClient() as session:
        yield await create_async_client(server.url, server.service_key, AsyncClientOptions(httpx_client=session))


@asynccontextmanager
async def _over_sync_supabase(dsn: str) -> AsyncIterator[Any]:
    with RpcServer.in_thread(dsn, *_KEYS) as server, httpx.Client() as session:
        yield create_client(server.url, server.service_key, ClientOptions(httpx_client=session))


_SOURCES = {
    "psycopg": _over_psycopg,
    "psycopg-pool": _over_pool,
    "psycopg-sync-pool": _over_sync_pool,
    "supabase-async": _over_supabase,
    "supabase-sync": _over_sync_supabase,
}


@asynccontextmanager
async def _opened(transport: str, dsn: str) -> AsyncIterator[Database]:
    async with _SOURCES[transport](dsn) as source:
        database = Database.of(source)
        try:
            yield database
        finally:
            await database.aclose()


@pytest.fixture(params=_SOURCES)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def over_transport(transport: str, dsn: str) -> AbstractAsyncContextManager[Database]:
    """A migrated database, over the transport of this test."""
    return _opened(transport, dsn)


@pytest.fixture
async def over_psycopg(second_dsn: str) -> AsyncGenerator[Database]:
    """Another migrated database over our own connections, to compare with."""
    async with _opened("psycopg", second_dsn) as database:
        yield database


@pytest.fixture
def second_dsn(postgres_server, template_database: str):
    name = "test_second"
    yield postgres_server.create_database(name, template_database)
    postgres_server.leave_database(name)


@pytest.fixture
async def plain(transport: str, empty_dsn: str) -> AsyncGenerator[Database]:
    """A database with none of our tables and the functions above, over the transport of this test."""
    async with await psycopg.AsyncConnection.connect(empty_dsn) as connection:
        await connection.execute("GRANT USAGE ON SCHEMA public TO service_role")
        await connection.execute(_FUNCTIONS)
    async with _opened(transport, empty_dsn) as database:
        yield database
