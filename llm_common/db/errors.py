"""The one door from a database's error to ours, for every transport."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from llm_common._text.redaction import redact
from llm_common.db.sqlstates import is_unavailable, may_pass
from llm_common.exceptions import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    LLMCommonError,
    MigrationError,
)

__all__ = ["Refusal", "database_error", "not_storable", "register_refusal"]

#: Makes our error from the message of a SQL function and the JSON of its DETAIL.
Refusal: TypeAlias = Callable[[str, Mapping[str, Any]], LLMCommonError]

#: NUL and unpaired surrogates, which JSON can carry and PostgreSQL cannot store; and what its encoding lacks.
_NOT_STORABLE: Final = frozenset({"22P05", "22021"})
#: Codes (a regular expression), what they are here, and what to say. The first that matches counts.
_KNOWN: Sequence[tuple[str, type[DatabaseError], str]] = (
    (
        # No such function, table, column or schema; PostgREST's codes are from its cache of the schema.
        r"42883|42P01|42703|3F000|PGRST202|PGRST205",
        MigrationError,
        "{message}: this database lacks our schema, or has an older one. Run `llm-common migrate` "
        "(or `await db.migrate()`).",
    ),
    (
        r"PGRST106",
        DatabaseError,
        "{message}: our functions are in schema public. Make the client with that schema, and let Supabase expose it "
        "(Settings, API, Exposed schemas).",
    ),
    (
        r"401|403|PGRST30.",
        DatabaseUnavailableError,
        "Supabase refused the key: {message}. Make the client with the service_role key.",
    ),
    (
        r"402",
        DatabaseUnavailableError,
        "Supabase asks for payment: {message}. See to the project's billing; it may be paused or over its quota.",
    ),
    (
        r"429",
        DatabaseUnavailableError,
        "Supabase says that too many requests come in: {message}. Send fewer at once, or raise the project's limit.",
    ),
    (
        r"25006",
        DatabaseUnavailableError,
        "the database is read-only: {message}. It is a replica, or was set so (Supabase does that when the disk is "
        "full): connect to the primary, or make room.",
    ),
    (
        r"42501",
        DatabaseError,
        "{message}. Connect as the owner of our tables; with Supabase, use the service_role key.",
    ),
)

_refusals: dict[str, Refusal] = {"LC002": lambda message, _: InvalidInputError(message)}


def register_refusal(code: str, refusal: Refusal) -> None:
    """Lets a system bring the error of an SQLSTATE that its own SQL functions raise (`LC...`).

    Called where that system's SQL functions are typed, so whoever calls them gets the error.
    """
    _refusals[code] = refusal


def database_error(code: str | None, message: str, detail: str | None = None) -> LLMCommonError:
    """Ours for an SQLSTATE, a PostgREST code or, where a proxy answered instead of PostgREST, an HTTP status.

    `message` is the primary one. `detail` is read for our own codes only, because PostgreSQL puts values there.
    """
    code = code or ""
    if code.startswith("LC"):
        return _refusal(code, message, _read_detail(detail))
    if code in _NOT_STORABLE:
        return not_storable(message)
    shown = redact(_without_values(code, message))
    for codes, error, text in _KNOWN:
        if re.fullmatch(codes, code):
            return error(text.format(message=shown), sqlstate=code)
    if is_unavailable(code):
        return DatabaseUnavailableError(f"the database is not available: {shown}", sqlstate=code)
    return DatabaseError(f"the database refused: {shown}", sqlstate=code or None, retryable=may_pass(code, message))


def not_storable(message: str = "") -> InvalidInputError:
    """The error for text that the database cannot hold. `message` is PostgreSQL's, which names the character."""
    found = re.search(r"(?:0x[0-9a-f]{2}\s?)+", message)
    lacking = bytes.fromhex(found[0].replace("0x", "")).decode(errors="ignore").strip("\0") if found else ""
    encodings = re.findall(r"[\"»„“«]\s?([\w-]+)\s?[\"«“”»]", message)  # quoted as in the server's language
    if lacking and encodings:
        return InvalidInputError(
            f"the character {lacking!r} (U+{ord(lacking[0]):04X}) cannot be stored: this database's encoding is "
            f"{encodings[-1]}. Use a database with encoding UTF8; its encoding cannot be changed later."
        )
    return InvalidInputError("text with a NUL or an unpaired surrogate cannot be stored; remove it first")


def _refusal(code: str, message: str, detail: Mapping[str, Any]) -> LLMCommonError:
    if code in _refusals:
        try:
            return _refusals[code](message, detail)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            pass  # the figures are not those that our function gives: say what there is
    return DatabaseError(message, sqlstate=code)


def _read_detail(detail: str | None) -> Mapping[str, Any]:
    try:
        read: object = json.loads(detail or "{}")
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}


def _without_values(code: str, message: str) -> str:
    # Class 22 (data exceptions) quotes the value: invalid input syntax for type uuid: "..."
    return re.sub('".*"', '"..."', message, flags=re.DOTALL) if code.startswith("22") else message
