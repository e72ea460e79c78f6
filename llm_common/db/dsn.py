"""Database URLs: what we add to a host's, what we leave out of it, and how one is shown without its secrets.

libpq takes a URL apart in ways that people do not expect: behind an @ or a / in a password that is not percent-encoded
it finds hosts, ports and databases, and its messages quote them. So nothing of a URL is shown before it is known to be
taken apart as it was meant, and nothing of libpq's words before they are redacted.
"""

import logging
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from llm_common._text.redaction import Secret, presentable
from llm_common.exceptions import ConfigurationError

__all__ = ["describe", "pinned", "shown", "with_defaults"]

_log = logging.getLogger(__name__)

#: What holds unless the URL says otherwise. Seconds; `tcp_user_timeout` in milliseconds. They end a call whose
#: server vanished without a word, which would otherwise wait for ever.
_DEFAULTS: Final[Mapping[str, str]] = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "fallback_application_name": "llm-common",
}
#: What our SQL rests on, whatever database, role or URL say. Not read-write: whoever made a database read-only (a
#: failover, a full disk) meant it.
_PINNED_OPTIONS: Final = (
    r"-c default_transaction_isolation=read\ committed -c standard_conforming_strings=on -c search_path=public"
)
_SECRET_PARAMETERS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
#: Parameters of tools that read the same variable: Prisma, asyncpg, SQLAlchemy, JDBC, node-postgres, Supabase, Vercel.
_FOREIGN: Final = re.compile(
    "pgbouncer|connection_limit|pool_timeout|schema|sslaccept|(prepared_)?statement_cache_size|socket_?timeout|supa"
    "|command_timeout|prepared_statement_name_func|max_cacheable_statement_size|max_cached_statement_lifetime|charset"
    "|(min|max|pool)_size|max_overflow|pool_recycle|pool_pre_ping|pool_mode|uselibpqcompat|workaround|login_?timeout"
    "|preparethreshold|currentschema|rewritebatchedinserts|binarytransfer|idle_timeout|max_lifetime|async_fallback",
    re.IGNORECASE,
)
#: asyncpg's and JDBC's `ssl`, as libpq's `sslmode` says it.
_SSL: Final[Mapping[str, str]] = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
#: SQLAlchemy writes its driver into the scheme. A password may have a ? in it.
_URL: Final = re.compile(
    r"(?P<scheme>postgres(?:ql)?)(?:\+\w+)?(?P<place>://(?:[^@/]*@)?[^?]*)(?:\?(?P<query>.*))?", re.DOTALL
)


def with_defaults(dsn: str) -> str:
    """The host's DSN, honoured as it is, in UTF-8 and with bounds on waiting. Raises `ConfigurationError`."""
    given = _read(dsn)
    several = {"target_session_attrs": "read-write"} if "," in given.get("host", "") else {}
    return Secret(make_conninfo("", **{**_DEFAULTS, **several, **given, "client_encoding": "utf8"}))


def pinned(dsn: str) -> str | None:
    """`with_defaults`, with the settings that our SQL rests on, for a server or a pooler that takes `options`.

    None where the DSN's own options are for a pooler that reads them itself (`reference=...`, `endpoint=...`).
    """
    theirs = _read(dsn).get("options", os.environ.get("PGOPTIONS", "")).strip()
    if theirs and not theirs.startswith("-"):
        return None
    return Secret(make_conninfo(with_defaults(dsn), options=f"{theirs} {_PINNED_OPTIONS}".strip()))


def describe(dsn: str) -> str:
    """`user@host:port/database`, for messages: never the password."""
    given = _read(dsn)
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"{user}{given.get('host', 'localhost')}{port}/{given.get('dbname', '')}"


def shown(dsn: str, message: str) -> str:
    """What of a driver's message about this DSN may be shown."""
    given = _read(dsn)
    secrets = [given[name] for name in _SECRET_PARAMETERS if name in given]
    return presentable(message, secrets=[*secrets, os.environ.get("PGPASSWORD", "")])


def _read(dsn: str) -> Mapping[str, str]:
    dsn = Secret(dsn)
    given = _parsed(dsn)
    # Raised here, where no variable shows a piece of the URL.
    if given is None:
        raise ConfigurationError(
            "the database URL cannot be read; it looks like postgresql://user:password@host:5432/database, with "
            "special characters of the password percent-encoded (@ is %40, / is %2F) and only parameters that "
            "PostgreSQL knows"
        )
    if isinstance(given, ConfigurationError):
        raise ConfigurationError(str(given))  # that one is kept for the next time
    return given


@lru_cache(maxsize=8)
def _parsed(dsn: str) -> Mapping[str, str] | ConfigurationError | None:
    """The parameters, None where libpq takes them otherwise than they were meant, or what to say of one of them."""
    url = _URL.fullmatch(dsn.strip())
    try:
        parsed = conninfo_to_dict(dsn.strip() if url is None else f"{url['scheme']}{url['place']}")
    except ProgrammingError:
        return None  # the reason that libpq gives quotes the URL, and with it the password
    given: dict[str, str] = {name: Secret(value) for name, value in parsed.items()}
    if not _is_plausible(given):
        return None
    if url is not None and url["query"]:
        parameters = _parameters(url["query"])
        if not isinstance(parameters, dict):
            return parameters
        given |= parameters
    return given if _is_plausible(given) else None


def _is_plausible(given: Mapping[str, str]) -> bool:
    places = (given.get(name, "") for name in ("host", "hostaddr", "dbname"))
    return not any("@" in place for place in places) and re.fullmatch(r"[\d,\s]*", given.get("port", "")) is not None


def _parameters(query: str) -> dict[str, str] | ConfigurationError | None:
    """Those of a URL's query that are for PostgreSQL."""
    if "@" in query:
        return None  # it may be the rest of a password
    split = (pair.partition("=") for pair in query.split("&") if pair)
    pairs = [(unquote(name), Secret(unquote(value))) for name, _, value in split]
    ours = {option.keyword.decode() for option in Conninfo.get_defaults()}
    others = [name for name, _ in pairs if name not in ours and name.lower() != "ssl"]
    if unknown := [name for name in others if not _FOREIGN.fullmatch(name)]:
        return ConfigurationError(
            f"the database URL has a parameter {unknown[0]:.60}, which PostgreSQL does not know; take it out"
        )
    if others:
        _log.info("parameters of the database URL that are another tool's are left out: %s", ", ".join(others))
    modes = [("sslmode", _SSL.get(value, value)) for name, value in pairs if name.lower() == "ssl"]
    return dict([*modes, *((name, value) for name, value in pairs if name in ours)])
