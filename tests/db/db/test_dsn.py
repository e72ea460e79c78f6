"""Database URLs: what is understood, what is left out, and that nothing of a password is shown."""

import logging
import traceback
from contextlib import suppress
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from llm_common.db.database import Database
from llm_common.db.dsn import describe, pinned, shown, with_defaults
from llm_common.exceptions import ConfigurationError, DatabaseUnavailableError

#: Five signs in a row that are in no message of ours or the driver's.
MARK = "Zq7Zq"
SIGNS = st.text(st.sampled_from("ab1/@:?#&=%+ []'\"\\ü.,-"), max_size=6)


@given(SIGNS, SIGNS, st.booleans())
def test_no_piece_of_a_password_is_shown(before: str, after: str, encoded: bool) -> None:
    """However it is spelled in the URL: in the error, in its traceback with variables, and in the description."""
    password = f"{before}{MARK}{after}"
    url = f"postgresql://app:{quote(password, safe='') if encoded else password}@127.0.0.1:1/d"
    try:
        text = (
            repr(Database.connect(url))
            + describe(url)
            + shown(url, f"refused {password if encoded else unquote(password)}")
        )
    except ConfigurationError as error:
        assert not encoded
        stack = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(stack.format()).partition("llm_common")[2]  # the first frame is this test's, which has it
    assert MARK not in text


@pytest.mark.parametrize("password", ["Top/Zq7Zq", "Top@Zq7Zq", "12/Zq7Zq", "/Zq7Zq", "1/2?Zq7Zq=3", "Zq7Zq"])
async def test_a_connection_that_fails_shows_none_either(password: str) -> None:
    """The driver's words are redacted, and where the URL is not understood the driver is not asked."""
    with pytest.raises((ConfigurationError, DatabaseUnavailableError)) as caught:
        await Database.connect(f"postgresql://app:{password}@127.0.0.1:1/d?connect_timeout=2")
    assert MARK not in "".join(traceback.format_exception(caught.value))


def test_a_password_is_redacted_where_the_driver_repeats_it() -> None:
    """Also where it had to be percent-encoded."""
    assert shown("postgresql://app:p%40ss@h/d", "no role p@ss, p%40ss") == "no role [redacted], [redacted]"


def test_parameters_of_other_tools_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """With one line that says so, however often the URL is read."""
    caplog.set_level(logging.INFO)
    url = "postgresql://u:p@h:6543/d?pgbouncer=true&connection_limit=1&sslmode=require&statement_cache_size=0"
    for _ in range(3):
        parameters = conninfo_to_dict(with_defaults(url))
    assert (parameters["host"], parameters["dbname"], parameters["sslmode"]) == ("h", "d", "require")
    assert [record.message for record in caplog.records] == [
        "parameters of the database URL that are another tool's are left out: "
        "pgbouncer, connection_limit, statement_cache_size"
    ]


@pytest.mark.parametrize(
    ("ssl", "mode"), [("disable", "disable"), ("require", "require"), ("true", "require"), ("false", "disable")]
)
def test_the_ssl_of_asyncpg_and_jdbc_is_kept(ssl: str, mode: str) -> None:
    """It is what libpq calls `sslmode`, and leaving it out would open what somebody closed."""
    assert conninfo_to_dict(with_defaults(f"postgresql+asyncpg://u:p@h/d?ssl={ssl}"))["sslmode"] == mode
    assert (
        conninfo_to_dict(with_defaults(f"postgresql://h/d?sslmode=verify-full&ssl={ssl}"))["sslmode"] == "verify-full"
    )


def test_an_unknown_parameter_is_named() -> None:
    """Without its value."""
    with pytest.raises(ConfigurationError, match="a parameter sslmod,") as caught:
        Database.connect("postgresql://u:p@h/d?sslmod=Zq7Zq")
    assert MARK not in str(caught.value)


def test_several_hosts_mean_the_one_that_takes_writes() -> None:
    """Unless the URL says otherwise."""
    assert "target_session_attrs=read-write" in with_defaults("postgresql://h1,h2/d")
    assert "target_session_attrs=any" in with_defaults("postgresql://h1,h2/d?target_session_attrs=any")
    assert "target_session_attrs" not in with_defaults("postgresql://h1/d")


def test_options_of_the_host_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the URL, else those of the environment; what our SQL rests on comes last, and counts."""
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=8MB")
    for url, theirs in (("postgresql://h/d", "work_mem=8MB"), ("postgresql://h/d?options=-c%20jit%3Doff", "jit=off")):
        options = conninfo_to_dict(pinned(url) or "")["options"]
        assert options.startswith(f"-c {theirs} -c default_transaction_isolation=")
    assert pinned("postgresql://h/d?options=reference%3Dabc") is None


@given(st.text(max_size=80))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """Nothing but our own error comes out."""
    with suppress(ConfigurationError):
        assert with_defaults(text)
        assert describe(text)
        assert pinned(text) is not None or "options" in text
