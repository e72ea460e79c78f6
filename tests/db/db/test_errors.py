"""The map from a database's codes to our exceptions."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_common.db.errors import database_error
from llm_common.exceptions import (
    BudgetExceededError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    MigrationError,
    PipelineError,
    RunCancelledError,
    RunFencedError,
    RunInProgressError,
)

_REFUSAL = {
    "budget": "project day",
    "limit_nano": 10_000_000_000,
    "spent_nano": 9_000_000_000,
    "reserved_nano": 500_000_001,
    "requested_nano": 600_000_000,
    "resets_at": "2026-11-22T00:00:00+00:00",
}


def test_a_budget_refusal_has_every_figure() -> None:
    """LC001 becomes a `BudgetExceededError` with exact dollars and the time of the reset."""
    error = database_error("LC001", "budget", json.dumps(_REFUSAL))
    assert isinstance(error, BudgetExceededError)
    assert error.budget == "project day"
    assert error.limit_usd == Decimal(10)
    assert error.spent_usd == Decimal(9)
    assert error.reserved_usd == Decimal("0.500000001")
    assert error.requested_usd == Decimal("0.6")
    assert error.resets_at == datetime(2026, 11, 22, tzinfo=UTC)


def test_a_total_never_resets() -> None:
    """A budget without a window has no time of a reset."""
    error = database_error("LC001", "budget", json.dumps({**_REFUSAL, "resets_at": None}))
    assert isinstance(error, BudgetExceededError)
    assert error.resets_at is None


@pytest.mark.parametrize("detail", [None, "", "not JSON", "[1]", "{}"])
def test_a_refusal_without_its_figures_is_still_an_error(detail: str | None) -> None:
    """A detail that cannot be read does not turn a refusal into an accident of ours."""
    error = database_error("LC001", "no more", detail)
    assert type(error) is DatabaseError
    assert error.sqlstate == "LC001"
    assert str(error) == "no more"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("LC002", InvalidInputError),
        ("LC003", DatabaseError),
        ("LC004", PipelineError),
        ("LC005", RunFencedError),
        ("LC006", RunInProgressError),
        ("LC007", RunCancelledError),
        ("42883", MigrationError),
        ("42P01", MigrationError),
        ("PGRST202", MigrationError),
        ("08006", DatabaseUnavailableError),
        ("57P01", DatabaseUnavailableError),
        ("53300", DatabaseUnavailableError),
        ("28P01", DatabaseUnavailableError),
        ("3D000", DatabaseUnavailableError),
        ("PGRST003", DatabaseUnavailableError),
        ("PGRST301", DatabaseUnavailableError),
        ("503", DatabaseUnavailableError),
        ("22P05", InvalidInputError),
        ("57014", DatabaseError),
        ("23505", DatabaseError),
        ("42501", DatabaseError),
        ("P0001", DatabaseError),
        ("PGRST116", DatabaseError),
        ("", DatabaseError),
        (None, DatabaseError),
    ],
)
def test_each_code_has_its_error(code: str | None, expected: type[Exception]) -> None:
    """The type is exactly that of the code, and the message says what the database said."""
    error = database_error(code, "what it said")
    assert type(error) is expected
    if code != "22P05":
        assert "what it said" in str(error)


def test_a_runs_error_names_the_run() -> None:
    """The run's id comes along where the detail has it."""
    error = database_error("LC006", "busy", '{"run_id": "5a0e"}')
    assert isinstance(error, RunInProgressError)
    assert error.run_id == "5a0e"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("22P02", 'invalid input syntax for type uuid: "my secret"'),
        ("22007", 'invalid input syntax for type date: "my "secret"\nprompt"'),
        ("22003", 'value "my secret" is out of range for type bigint'),
    ],
)
def test_values_stay_out_of_messages(code: str, message: str) -> None:
    """PostgreSQL quotes a value that does not fit its type; we do not."""
    error = database_error(code, message, detail="Key (content)=(my secret) already exists.")
    assert "secret" not in str(error)
    assert "type" in str(error)


def test_detail_stays_out_of_messages() -> None:
    """The DETAIL of PostgreSQL's own errors has rows in it."""
    error = database_error("23502", "null value in column", "Failing row contains (my secret).")
    assert "secret" not in str(error)


def test_braces_in_a_message_are_text() -> None:
    """A message that looks like a template is not one."""
    assert "{oops}" in str(database_error("42P01", 'relation "{oops}" does not exist'))
