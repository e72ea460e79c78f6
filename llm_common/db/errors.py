"""The one door from a database's error to ours, for every transport."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from llm_common.exceptions import (
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    LLMCommonError,
    MigrationError,
    PipelineError,
    RunCancelledError,
    RunFencedError,
    RunInProgressError,
)
from llm_common.models import budget_refusal

__all__ = ["database_error"]

_RUN_ERRORS: Mapping[str, type[PipelineError]] = {
    "LC004": PipelineError,
    "LC005": RunFencedError,
    "LC006": RunInProgressError,
    "LC007": RunCancelledError,
}
#: Text that JSON or a connection can carry and PostgreSQL cannot store: NUL and unpaired surrogates.
_NOT_STORABLE = frozenset({"22P05", "22021"})
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
        r"401|403|PGRST30.",
        DatabaseUnavailableError,
        "Supabase refused the key: {message}. Make the client with the service_role key.",
    ),
    (
        r"42501",
        DatabaseError,
        "{message}. Connect as the owner of our tables; with Supabase, use the service_role key.",
    ),
    (
        # Connection, login, no such database, too many connections, shutdown; PostgREST's own; a proxy's status.
        r"08...|28...|3D000|53300|57P0.|PGRST00.|404|5\d\d",
        DatabaseUnavailableError,
        "the database is not available: {message}",
    ),
)


def database_error(code: str | None, message: str, detail: str | None = None) -> LLMCommonError:
    """Ours for an SQLSTATE, a PostgREST code or, where a proxy answered instead of PostgREST, an HTTP status.

    `message` is the primary one. `detail` is read for our own codes only, because PostgreSQL puts values there.
    """
    code = code or ""
    if code.startswith("LC"):
        return _business_error(code, message, _read_detail(detail))
    if code in _NOT_STORABLE:
        return InvalidInputError("text with a NUL or an unpaired surrogate cannot be stored; remove it first")
    for codes, error, text in _KNOWN:
        if re.fullmatch(codes, code):
            return error(text.format(message=message), sqlstate=code)
    return DatabaseError(f"the database refused: {_without_values(code, message)}", sqlstate=code or None)


def _business_error(code: str, message: str, detail: Mapping[str, Any]) -> LLMCommonError:
    if code == "LC001" and detail:
        resets = detail.get("resets_at")
        return budget_refusal(
            budget=str(detail["budget"]),
            limit_nano=int(detail["limit_nano"]),
            spent_nano=int(detail["spent_nano"]),
            reserved_nano=int(detail["reserved_nano"]),
            requested_nano=int(detail["requested_nano"]),
            resets=datetime.fromisoformat(str(resets)) if resets else None,
        )
    if code == "LC002":
        return InvalidInputError(message)
    if code in _RUN_ERRORS:
        return _RUN_ERRORS[code](message, run_id=detail.get("run_id"))
    return DatabaseError(message, sqlstate=code)


def _read_detail(detail: str | None) -> Mapping[str, Any]:
    try:
        read: object = json.loads(detail or "{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}


def _without_values(code: str, message: str) -> str:
    # Class 22 (data exceptions) quotes the value: invalid input syntax for type uuid: "..."
    return re.sub('".*"', '"..."', message, flags=re.DOTALL) if code.startswith("22") else message
