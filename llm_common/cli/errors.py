"""Errors for people: which of them are the user's to set right, and how they are shown."""

from rich.markup import escape

from llm_common.cli.console import notes
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

__all__ = ["exit_code", "explain"]

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
    notes.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
    if run_id := getattr(error, "run_id", None):
        notes.print(f"The run is kept: llm-common runs show {run_id}", highlight=False)
