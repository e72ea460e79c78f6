"""Database URLs: what we add to a host's, and how one is shown without its secrets."""

import re
from collections.abc import Mapping
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_common.exceptions import ConfigurationError

__all__ = ["describe", "with_defaults"]

#: What holds unless the URL says otherwise. Seconds; `tcp_user_timeout` in milliseconds. They end a call whose
#: server vanished without a word, which would otherwise wait for ever.
_DEFAULTS: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "fallback_application_name": "llm-common",
}


def with_defaults(dsn: str) -> str:
    """The host's DSN, honoured as it is, with bounds on waiting. Raises `ConfigurationError` for an unusable one."""
    return make_conninfo("", **{**_DEFAULTS, **_read(dsn)})


def describe(dsn: str) -> str:
    """`user@host:port/database`, for messages: never the password."""
    given = _read(dsn)
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"{user}{given.get('host', 'localhost')}{port}/{given.get('dbname', '')}"


def _read(dsn: str) -> dict[str, Any]:
    # SQLAlchemy writes its driver into the scheme; the rest of such a URL is PostgreSQL's.
    plain = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn.strip())
    try:
        return conninfo_to_dict(plain)
    except ProgrammingError:
        # The reason that libpq gives quotes the URL, and with it the password.
        raise ConfigurationError(
            "the database URL cannot be read; it looks like postgresql://user:password@host:5432/database, with "
            "special characters of the password percent-encoded and only parameters that PostgreSQL knows"
        ) from None
