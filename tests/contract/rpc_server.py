"""A small HTTP server that answers ``POST /rest/v1/rpc/<function>`` the way PostgREST does, over a real Postgres.

The contract suite points the real Supabase clients at it. What it follows, from the documentation of PostgREST 14:

- Functions as RPC https://docs.postgrest.org/en/v14/references/api/functions.html
- Errors and their HTTP status https://docs.postgrest.org/en/v14/references/errors.html
- Transactions https://docs.postgrest.org/en/v14/references/transactions.html

It is narrower than PostgREST on purpose, and says so with an error instead of ignoring a part of a request: only POST,
only schema ``public``, only a JSON object of named arguments, no filters in the query string, only JSON answers. Keys
are compared as they are; nothing is decoded as a JWT. The schema cache is read again when a function is not found.
"""

import json
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, Self, cast

import psycopg
from aiohttp import web
from anyio.from_thread import start_blocking_portal
from psycopg import AsyncRawCursor
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from tests.contract.rpc_errors import RefusalError, database_refusal, function_not_found

_MAX_BODY_BYTES = 64 * 2**20
_POOL_TIMEOUT_S = 10  # PostgREST's default for db-pool-acquisition-timeout

# character and bit lose their length on the way into a function, so PostgREST reads them as the varying types.
_ROUTINES: LiteralString = """
SELECT p.proname::text AS name,
       coalesce(args.names, '{}') AS arg_names,
       coalesce(args.types, '{}') AS arg_types,
       p.pronargs - p.pronargdefaults AS required_count,
       p.provolatile <> 'v' AS read_only,
       p.proretset AS returns_set,
       p.prorettype = 'void'::regtype AS returns_void,
       t.typtype = 'c' OR coalesce(p.proargmodes::text[] && '{t,b,o}', false) AS returns_row,
       (SELECT split_part(setting, '=', 2) FROM unnest(p.proconfig) AS setting
         WHERE starts_with(setting, 'statement_timeout=')) AS statement_timeout
  FROM pg_proc AS p
  JOIN pg_type AS t ON t.oid = p.prorettype
  LEFT JOIN LATERAL (
       SELECT array_agg(coalesce(arg.name, '') ORDER BY arg.position) AS names,
              array_agg(CASE arg.type
                          WHEN 'character'::regtype THEN 'character varying'
                          WHEN 'bit'::regtype THEN 'bit varying'
                          ELSE format_type(arg.type, NULL)
                        END ORDER BY arg.position) AS types
         FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
              WITH ORDINALITY AS arg (type, name, mode, position)
        WHERE coalesce(arg.mode, 'i') IN ('i', 'b', 'v')) AS args ON true
 WHERE p.pronamespace = 'public'::regnamespace
   AND p.prokind = 'f'
   AND p.prorettype <> 'trigger'::regtype
   AND NOT ('' = ANY (coalesce(args.names, '{}')))
"""

_TRANSACTION_SETTINGS: LiteralString = """
SELECT set_config('search_path', '"public"', true),
       set_config('statement_timeout', $1, true),
       set_config('role', $2, true),
       set_config('request.jwt.claims', $3, true)
"""


@dataclass(frozen=True)
class _Routine:
    name: str
    arg_names: list[str]
    arg_types: list[str]
    required_count: int
    read_only: bool
    returns_set: bool
    returns_void: bool
    returns_row: bool
    statement_timeout: str | None
    """The function's own SET statement_timeout, which PostgREST lifts to the transaction."""

    def accepts(self, given: frozenset[str]) -> bool:
        return given.issuperset(self.arg_names[: self.required_count]) and given.issubset(self.arg_names)

    def signature(self) -> str:
        pairs = zip(self.arg_names, self.arg_types, strict=True)
        return f"public.{self.name}({', '.join(f'{name} => {type_}' for name, type_ in pairs)})"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _call_statement(routine: _Routine, given: frozenset[str], max_rows: int) -> bytes:
    """One SELECT that takes the request body as $1 and returns the answer's JSON as text.

    The body goes through json_to_record with the declared types, so that Postgres itself does every conversion.
    """
    types = zip(routine.arg_names, routine.arg_types, strict=True)
    declared = {_quoted(name): type_ for name, type_ in types if name in given}
    source = "(SELECT $1::json AS body) AS _rpc_payload"
    if declared:
        columns = ", ".join(f"{name} {type_}" for name, type_ in declared.items())
        source += f", LATERAL json_to_record(_rpc_payload.body) AS _rpc_args({columns})"
    call = f"public.{_quoted(routine.name)}({', '.join(f'{n} => _rpc_args.{n}' for n in declared)})"
    if routine.returns_row:
        rows = f"SELECT _rpc_call.* FROM {source}, LATERAL {call} AS _rpc_call"
        answer = "json_agg(_rpc_row)"
    else:
        rows = f"SELECT {call} AS _rpc_value FROM {source}"
        answer = "json_agg(_rpc_row._rpc_value)"
    answer = f"coalesce({answer}, '[]')" if routine.returns_set else f"coalesce({answer} -> 0, 'null')"
    return f"SELECT ({answer})::text FROM ({rows} LIMIT {max_rows}) AS _rpc_row".encode()


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


async def _read_arguments(request: web.Request) -> tuple[str, frozenset[str]]:
    """The body as it came (Postgres parses it, so no digit is lost) and the names of its arguments."""
    if "Content-Type" in request.headers and request.content_type != "application/json":
        message = f"Content-Type not acceptable: {request.content_type}"
        raise RefusalError(400, "PGRST102", message)
    try:
        body = (await request.read()).decode() or "{}"
        arguments: object = json.loads(body, parse_constant=_reject_constant)
    except ValueError:
        raise RefusalError(400, "PGRST102", "Empty or invalid json") from None
    if not isinstance(arguments, dict):
        message = "This server takes a JSON object of named arguments"
        raise RefusalError(400, "PGRST102", message, details=f"The body is a {type(arguments).__name__}.")
    return body, frozenset(cast("dict[str, object]", arguments))


def _check_supported(request: web.Request) -> None:
    if request.query_string:
        message = "This server takes no filters, select, order or limit on a function's result"
        raise RefusalError(400, "PGRST100", message, details=request.query_string)
    schema = request.headers.get("Content-Profile", "public")
    if schema != "public":
        hint = "Only the following schemas are exposed: public"
        raise RefusalError(406, "PGRST106", f"Invalid schema: {schema}", hint=hint)
    accept = request.headers.get("Accept", "*/*")
    if not any(kind.split(";")[0].strip() in {"*/*", "application/json"} for kind in accept.split(",")):
        raise RefusalError(406, "PGRST107", f"None of these media types are available: {accept}")


async def _unserved(request: web.Request) -> web.Response:
    if "/rpc/" in request.path:
        message = f"Cannot use the {request.method} method on RPC"
        return RefusalError(405, "PGRST101", message).response()
    return RefusalError(404, "PGRST125", "Invalid path specified in request URL").response()


class RpcServer:
    """PostgREST's RPC endpoint on a free loopback port; an async context manager.

    ``dsn`` must log in as a user that may SET ROLE to anon and service_role. At most ``max_rows`` rows of a set are
    returned; one statement may run for ``statement_timeout_ms`` unless the function sets its own limit. A client that
    goes away does not stop its call: as with PostgREST, the transaction commits all the same.
    """

    def __init__(
        self,
        dsn: str,
        anon_key: str,
        service_key: str,
        *,
        max_rows: int = 1000,
        statement_timeout_ms: int = 8000,
        max_connections: int = 10,
    ) -> None:
        self.anon_key = anon_key
        self.service_key = service_key
        self.url = ""
        self._roles = {anon_key: "anon", service_key: "service_role"}
        self._dsn = dsn
        self._max_connections = max_connections
        self._max_rows = max_rows
        self._statement_timeout = f"{statement_timeout_ms}ms"
        self._schema_cache: dict[str, list[_Routine]] = {}

    @classmethod
    @contextmanager
    def in_thread(cls, dsn: str, anon_key: str, service_key: str, **options: Any) -> Generator[Self]:
        """Runs the server on a thread and event loop of its own, for sync clients, which block their caller."""
        server = cls(dsn, anon_key, service_key, **options)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(server):
            yield server

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._pool = AsyncConnectionPool(
                self._dsn,
                min_size=1,
                max_size=self._max_connections,
                timeout=_POOL_TIMEOUT_S,
                open=False,
                kwargs={"autocommit": True, "prepare_threshold": None, "cursor_factory": AsyncRawCursor},
            )
            await self._pool.open(wait=True, timeout=_POOL_TIMEOUT_S)
            stack.push_async_callback(self._pool.close)
            await self._load_schema_cache()
            app = web.Application(client_max_size=_MAX_BODY_BYTES)
            app.router.add_post("/rest/v1/rpc/{function}", self._handle)
            app.router.add_post("/rpc/{function}", self._handle)
            app.router.add_route("*", "/{path:.*}", _unserved)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._running = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            role = self._role(request)
            _check_supported(request)
            body, given = await _read_arguments(request)
            try:
                routine = await self._find(request.match_info["function"], given)
                answer = await self._run(routine, role, body, given)
            except psycopg.Error as error:
                raise database_refusal(error, anonymous=role == "anon") from error
        except RefusalError as refusal:
            return refusal.response()
        if routine.returns_void:
            return web.Response(status=204)
        return web.Response(text=answer, content_type="application/json")

    def _role(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else request.headers.get("apikey", "")
        if not key:
            raise RefusalError(401, "PGRST302", "Anonymous access is disabled")
        role = self._roles.get(key)
        if role is None:
            raise RefusalError(401, "PGRST301", "No suitable key or wrong key type")
        return role

    async def _find(self, name: str, given: frozenset[str]) -> _Routine:
        candidates = self._candidates(name, given)
        if not candidates:
            await self._load_schema_cache()
            candidates = self._candidates(name, given)
        if not candidates:
            known = {key: [r.arg_names for r in routines] for key, routines in self._schema_cache.items()}
            raise function_not_found(name, given, known)
        if len(candidates) > 1:
            between = ", ".join(routine.signature() for routine in candidates)
            hint = (
                "Try renaming the parameters or the function itself in the database so function overloading"
                " can be resolved"
            )
            message = f"Could not choose the best candidate function between: {between}"
            raise RefusalError(300, "PGRST203", message, hint=hint)
        return candidates[0]

    def _candidates(self, name: str, given: frozenset[str]) -> list[_Routine]:
        return [routine for routine in self._schema_cache.get(name, []) if routine.accepts(given)]

    async def _run(self, routine: _Routine, role: str, body: str, given: frozenset[str]) -> str:
        timeout = routine.statement_timeout or self._statement_timeout
        claims = json.dumps({"role": role})
        async with self._pool.connection() as connection:
            await connection.set_read_only(routine.read_only)
            async with connection.transaction():
                await connection.execute(_TRANSACTION_SETTINGS, [timeout, role, claims])
                cursor = await connection.execute(_call_statement(routine, given, self._max_rows), [body])
                row = await cursor.fetchone()
        return row[0] if row else "null"

    async def _load_schema_cache(self) -> None:
        loaded: dict[str, list[_Routine]] = {}
        async with self._pool.connection() as connection, connection.transaction():
            # With an empty search path, format_type qualifies every type outside pg_catalog.
            await connection.execute("SELECT set_config('search_path', '', true)")
            async with connection.cursor(row_factory=class_row(_Routine)) as cursor:
                async for routine in await cursor.execute(_ROUTINES):
                    loaded.setdefault(routine.name, []).append(routine)
        self._schema_cache = loaded
