"""PostgREST's errors: their JSON body, and the HTTP status that belongs to each SQLSTATE.

After https://docs.postgrest.org/en/v14/references/errors.html.
"""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout

_STATUS_BY_SQLSTATE = {
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
_STATUS_BY_CLASS = {"08": 503, "0L": 403, "0P": 403, "28": 403, "53": 503} | dict.fromkeys(
    ["09", "25", "2D", "38", "39", "3B", "40", "54", "55", "57", "58", "F0", "HV", "P0", "XX"], 500
)


class RefusalError(Exception):
    """The request ends here, with PostgREST's error body and an HTTP status."""

    def __init__(
        self, status: int, code: str, message: str, *, details: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self._status = status
        self._code = code
        self._body = {"code": code, "message": message, "details": details, "hint": hint}

    def response(self) -> web.Response:
        headers = {"Proxy-Status": f"PostgREST; error={self._code}"}
        if self._status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.json_response(self._body, status=self._status, headers=headers)


def status_of(sqlstate: str, *, anonymous: bool) -> int:
    """The HTTP status for an SQLSTATE, after the table "HTTP Status Codes" of PostgREST's Errors page.

    A code that the table does not name, such as one of a host's own, is 400.
    """
    if sqlstate == "42501":
        return 401 if anonymous else 403
    if sqlstate.startswith("PT"):
        number = sqlstate[2:]
        return int(number) if number.isdecimal() and 200 <= int(number) <= 599 else 500
    return _STATUS_BY_SQLSTATE.get(sqlstate) or _STATUS_BY_CLASS.get(sqlstate[:2], 400)


def database_refusal(error: psycopg.Error, *, anonymous: bool) -> RefusalError:
    if isinstance(error, PoolTimeout):
        return RefusalError(504, "PGRST003", "Timed out acquiring connection from connection pool.")
    if error.sqlstate is None:
        message = "Database client error. Retrying the connection."
        return RefusalError(503, "PGRST001", message, details=str(error))
    return RefusalError(
        status_of(error.sqlstate, anonymous=anonymous),
        error.sqlstate,
        error.diag.message_primary or "",
        details=error.diag.message_detail,
        hint=error.diag.message_hint,
    )


def function_not_found(
    name: str, given: Collection[str], known: Mapping[str, Sequence[Collection[str]]]
) -> RefusalError:
    """PGRST202 for a call of ``name`` with these argument names; ``known`` has the argument names of each overload."""
    keys = sorted(given)
    listed = f"({', '.join(keys)})" if keys else " without parameters"
    plural = "s" if len(keys) > 1 else ""
    searched = f" with parameter{plural} {', '.join(keys)}" if keys else " without parameters"
    if name in known:
        overloads = [f"({', '.join(sorted(arg_names))})" for arg_names in known[name]]
        suggestions = [name + args for args in get_close_matches(f"({', '.join(keys)})", overloads, 1, 0.33)]
    else:
        suggestions = get_close_matches(name, known, 1, 0.75)
    return RefusalError(
        404,
        "PGRST202",
        f"Could not find the function public.{name}{listed} in the schema cache",
        details=f"Searched for the function public.{name}{searched} or with a single unnamed json/jsonb"
        " parameter, but no matches were found in the schema cache.",
        hint=f"Perhaps you meant to call the function public.{suggestions[0]}" if suggestions else None,
    )
