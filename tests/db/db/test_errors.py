"""The map from a database's codes to our exceptions."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_common.db.errors import database_error, register_refusal
from llm_common.db.functions import ledger, runs
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

#: They bring the errors of their own codes.
SYSTEMS = (ledger, runs)
_REFUSAL = {
    "budget": "project day",
    "limit_nano": 10_000_000_000,
    "spent_nano": 9_000_000_000,
    "reserved_nano": 500_000_001,
    "requested_nano": 600_000_000,
    "resets_at": "2026-11-22T00:00:00+00:00",
    "resets_in": 90.5,
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
    assert error.retry_after == 90.5


def test_a_total_never_resets() -> None:
    """A budget without a window has no time of a reset."""
    error = database_error("LC001", "budget", json.dumps({**_REFUSAL, "resets_at": None}))
    assert isinstance(error, BudgetExceededError)
    assert error.resets_at is None


@pytest.mark.parametrize(
    "detail",
    [None, "", "not JSON", "[1]", "{}", '{"budget": "b"}', json.dumps({**_REFUSAL, "limit_nano": [1]})]
    + [json.dumps({**_REFUSAL, name: "x"}) for name in _REFUSAL if name != "budget"]
    + ["[" * 100_000],
    ids=range(len(_REFUSAL) + 7),
)
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
        ("25006", DatabaseUnavailableError),
        ("53100", DatabaseUnavailableError),
        ("429", DatabaseUnavailableError),
        ("402", DatabaseUnavailableError),
        ("401", DatabaseUnavailableError),
        ("PGRST106", DatabaseError),
        ("40001", DatabaseError),
        ("55P03", DatabaseError),
        ("54000", DatabaseError),
        ("LC099", DatabaseError),
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


PASSING = ["08000", "08006", "08P01", "25006", "25P03", "40001", "40003", "40P01", "53000", "53100", "53200", "53300",
           "53400", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030", "429", "500", "503",
           "PGRST001"]  # fmt: skip
FINAL = ["22P02", "23505", "23514", "42501", "42601", "42883", "42P01", "0A000", "P0001", "XX000", "LC001", "LC003",
         "54001", "54023", "PGRST202", "PGRST106", "", "40002", "25001"]  # fmt: skip


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_may_be_tried_again(code: str) -> None:
    """It is told apart from what is the same the next time, whichever transport brought it."""
    error = database_error(code, "what it said")
    assert isinstance(error, DatabaseError)
    assert error.retryable


@pytest.mark.parametrize("code", FINAL)
def test_what_does_not_pass_is_final(code: str) -> None:
    """A statement that is wrong, or refused by our own functions, is not sent again."""
    assert not getattr(database_error(code, "what it said"), "retryable", False)


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        ("total size of jsonb array elements exceeds the maximum of 268435455 bytes", False),
        ("row is too big", False),
        (
            "database is not accepting commands that assign new transaction IDs to avoid wraparound data loss in "
            'database "d"',
            True,
        ),
        ('multixact "members" limit exceeded', True),
    ],
)
def test_a_limit_passes_by_its_cause(message: str, passes: bool) -> None:
    """Transaction ids come back by a vacuum; a value that is too large stays so."""
    error = database_error("54000", message)
    assert isinstance(error, DatabaseError)
    assert error.retryable is passes


def test_a_system_brings_its_own_errors() -> None:
    """Without a change here."""
    register_refusal("LC098", lambda message, detail: ValueError(message, detail["what"]))  # type: ignore[arg-type, return-value]
    assert repr(database_error("LC098", "no", '{"what": 3}')) == "ValueError('no', 3)"
    assert type(database_error("LC098", "no", "{}")) is DatabaseError


@pytest.mark.parametrize(
    ("message", "character"),
    [
        (
            'character with byte sequence 0xe2 0x82 0xac in encoding "UTF8" has no equivalent in encoding "LATIN1"',
            "'€'",
        ),
        ("Zeichen mit Byte-Folge 0xf0 0x9f 0x99 0x82 in Kodierung »UTF8« hat keine in »LATIN1«", "'🙂'"),
        ('invalid byte sequence for encoding "UTF8": 0x00', None),
        ("unsupported Unicode escape sequence", None),
    ],
)
def test_the_character_that_the_encoding_lacks_is_named(message: str, character: str | None) -> None:
    """And what a database's encoding lacks is not taken for a NUL."""
    error = database_error("22P05", message)
    assert isinstance(error, InvalidInputError)
    assert ("NUL" in str(error)) is (character is None)
    if character:
        assert character in str(error)
        assert "LATIN1" in str(error)


def test_no_secret_of_a_message_is_shown() -> None:
    """Whatever the server quotes."""
    secret = "postgresql://app:hunter2@db.example/d"
    assert "hunter2" not in str(database_error("08001", f"could not connect to {secret}"))
    assert "hunter2" not in str(database_error("XX000", f"password=hunter2 in {secret}"))
