"""Errors for people: which of them are the user's to set right, and how they are shown."""

import traceback

from llm_common._text.redaction import redact
from llm_common.cli.console import escape, notes
from llm_common.exceptions import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ContextWindowError,
    DatabaseError,
    InvalidInputError,
    InvalidQueryError,
    LLMCommonError,
    ModelNotFoundError,
)
from llm_common.settings import secrets_of

__all__ = ["exit_code", "explain", "explain_unforeseen"]

_TO_SET_RIGHT = (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ContextWindowError,
    DatabaseError,
    InvalidInputError,
    InvalidQueryError,
    ModelNotFoundError,
)


def exit_code(error: LLMCommonError) -> int:
    """2 where the user has something to change first, 1 where the work itself failed."""
    return 2 if isinstance(error, _TO_SET_RIGHT) else 1


def explain(error: LLMCommonError) -> None:
    """Say on standard error what went wrong."""
    notes.print(f"[bold red]error:[/] {escape(redact(str(error), secrets=secrets_of()))}")


def explain_unforeseen(error: Exception) -> None:
    """Show where a mistake of ours, or of a library, came from."""
    lines = "".join(traceback.format_exception(error))
    notes.print(escape(redact(lines, secrets=secrets_of())), soft_wrap=True)
    notes.print("[bold red]error:[/] this was not foreseen; please report the lines above")
