"""What our SQL needs of a session, wherever its connection comes from. Pure.

Our functions rest on read committed (a statement sees what others have committed meanwhile, and nothing is refused
because of it), and answers are read as UTF-8. Databases and roles may have other defaults.
"""

from collections.abc import Sequence
from typing import Any, Final

from llm_common.exceptions import ConfigurationError

__all__ = ["READ_SETTINGS", "is_read_committed", "objection"]

READ_SETTINGS: Final = (
    b"SELECT pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('client_encoding')"
)


def is_read_committed(row: Sequence[Any]) -> bool:
    """Of the row of `READ_SETTINGS`."""
    return _text(row[0]) == "read committed"


def objection(row: Sequence[Any]) -> ConfigurationError | None:
    """What a host has to change in its pool, by the row of `READ_SETTINGS`."""
    if not is_read_committed(row):
        return ConfigurationError(
            f"the pool's connections work at isolation level {_text(row[0])}, where what others book at the same time "
            "is refused. Make the pool with kwargs={'options': "
            r"r'-c default_transaction_isolation=read\ committed'}, or pass the URL: then we open "
            "connections of our own."
        )
    if _text(row[1]) != "UTF8":
        return ConfigurationError(
            f"the pool's connections have client_encoding {_text(row[1])}, in which not every answer can be read. Make "
            "the pool with kwargs={'client_encoding': 'utf8'}, or pass the URL: then we open connections of our own."
        )
    return None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)  # SQL_ASCII gives bytes
