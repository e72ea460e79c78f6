import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common import exceptions
from llm_common._text.retry_after import retry_after
from llm_common.exceptions import (
    ContentPolicyError,
    ContextWindowError,
    LLMError,
    ModelNotFoundError,
    QuotaExhaustedError,
    RateLimitError,
)
from llm_common.llm.error_mapping import classify

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "errors").glob("*.json"))
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
error_words = st.sampled_from(["error", "code", "message", "type", "metadata", "raw", "headers", "choices", "detail"])
error_bodies = st.dictionaries(
    error_words, json_values | st.dictionaries(error_words, json_values, max_size=5), max_size=5
)


def test_there_is_a_fixture_for_every_provider():
    """The parametrised test below cannot pass by finding nothing."""
    assert {path.name.split("_")[0] for path in FIXTURES} == {"openai", "openrouter", "zai", "anthropic"}


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["bytes", "parsed"])
def test_each_recorded_condition_becomes_its_typed_error(path: Path, form: str):
    """Class, code, retryable, fallback, retry_after and maybe_billed are what the fixture says."""
    recorded = json.loads(path.read_text())
    body, expected = recorded["body"], recorded["expected"]
    if form == "bytes" or isinstance(body, str):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = classify(recorded["provider"], recorded["status"], recorded["headers"], body, model="m", now=NOW)
    assert {
        "error": type(error).__name__,
        "code": error.code,
        "retryable": error.retryable,
        "fallback": error.fallback,
        "retry_after": error.retry_after,
        "maybe_billed": error.maybe_billed,
    } == expected
    assert (error.status, error.provider, error.model) == (recorded["status"], recorded["provider"], "m")
    assert isinstance(error, getattr(exceptions, expected["error"]))


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1113", QuotaExhaustedError),
        ("1304", QuotaExhaustedError),
        ("1308", QuotaExhaustedError),
        ("1310", QuotaExhaustedError),
        ("1302", RateLimitError),
        ("1261", ContextWindowError),
        ("1301", ContentPolicyError),
        ("1211", ModelNotFoundError),
    ],
)
def test_zai_codes_count_whatever_the_status_and_the_words(code: str, error: type[LLMError], status: int):
    """z.ai's messages come in two languages and its statuses vary; the code is what stays."""
    assert type(classify("zai", status, {}, {"error": {"code": code, "message": "余额不足"}})) is error


def test_the_message_says_what_happened_and_what_to_do():
    """Provider, model, status, code, the provider's words and an advice stand in one sentence each."""
    error = classify("zai", 429, {}, b'{"error":{"code":"1113","message":"Insufficient balance"}}', model="glm-5.3")
    assert str(error) == (
        "zai answered for glm-5.3 with an error (HTTP 429, code 1113): Insufficient balance. "
        "Top up the account or raise its limits, or use another provider."
    )


@pytest.mark.parametrize(
    "leak",
    [
        "sk-proj-abcdefghij0123456789",
        "sk-or-v1-0123456789abcdef",
        "sk-ant-api03-AbCdEf_012-3456",
        "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp",
        "my-own-odd-key",
    ],
)
def test_a_key_that_a_provider_echoes_is_not_shown(leak: str):
    """Neither the request's own key nor anything that looks like one reaches the message."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {leak}. Bearer {leak} is wrong"}}).encode()
    error = classify("openai", 401, {}, body, api_key="my-own-odd-key")
    assert leak not in str(error)
    assert "[redacted]" in str(error)


def test_a_prompt_that_a_provider_echoes_is_not_shown():
    """Whatever the message shares with the request is cut out; the rest stays readable."""
    prompt = "Patient Jane Roe, born 1970-01-01,\n was seen for a rare condition of the left knee."
    echo = "Patient Jane Roe, born 1970-01-01, was seen for a rare condition"
    body = json.dumps({"error": {"message": f"Invalid value: '{echo}'. Expected an object."}}).encode()
    error = classify("openai", 400, {}, body, sent=prompt)
    shown = str(error)
    assert "Jane" not in shown
    assert "1970" not in shown
    assert "condition" not in shown
    assert "Invalid value" in shown
    assert "object" in shown


def test_moderation_never_shows_the_flagged_input():
    """OpenRouter's `flagged_input` is the user's text."""
    body = {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "my secret"}}}
    error = classify("openrouter", 403, {}, body)
    assert isinstance(error, ContentPolicyError)
    assert "my secret" not in str(error)


def test_a_long_message_is_shortened():
    """A provider that sends a book does not fill the log with it."""
    error = classify("openai", 400, {}, json.dumps({"error": {"message": "no. " * 1000}}).encode())
    assert len(str(error)) < 500


def test_the_request_id_is_kept():
    """From the header that OpenAI or Anthropic sends, or from Anthropic's body."""
    assert classify("openai", 500, {"X-Request-ID": "req_1"}, b"").request_id == "req_1"
    assert classify("anthropic", 500, {"request-id": "req_2"}, b"").request_id == "req_2"
    assert classify("anthropic", 500, {}, b'{"type":"error","request_id":"req_3"}').request_id == "req_3"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "99999999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:00 GMT"}, 60.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2020 11:59:00 GMT"}, None),
        ({"retry-after": "Sat, 99 Nov 2026 12:01:00 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "-250", "retry-after": "1"}, 1.0),
        ({"x-ratelimit-reset": str(int((NOW.timestamp() + 5) * 1000))}, 5.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() + 5))}, 5.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() - 5))}, 0.0),
        ({"x-ratelimit-reset": "30"}, 30.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m1s"}, 61.0),
        ({"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "1m1s"}, None),
        ({}, None),
    ],
)
def test_every_way_to_say_when(headers: dict[str, str], seconds: float | None):
    """Seconds, milliseconds, dates, epochs and durations are read; negative and absurd values count as not sent."""
    assert retry_after(headers, now=NOW) == seconds


@given(st.text())
def test_any_retry_after_is_a_bearable_number_or_nothing(text: str):
    """No header makes a caller wait for ever, or fail."""
    for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset"):
        seconds = retry_after({name: text}, now=NOW)
        assert seconds is None or 0 <= seconds <= 7 * 86_400


@given(
    st.sampled_from(["openai", "openrouter", "zai", "anthropic", "x"]),
    st.integers(100, 599),
    error_bodies | st.binary(),
)
def test_any_failed_response_becomes_a_typed_error(provider: str, status: int, body: dict[str, object] | bytes):
    """Arbitrary statuses and bodies never raise, and never give anything but one of our errors."""
    error = classify(provider, status, {}, body)
    assert isinstance(error, LLMError)
    assert str(error)


def test_an_unknown_provider_is_judged_by_the_shared_rules():
    """A base URL of one's own is classified like OpenAI."""
    assert isinstance(classify("groq", 429, {"retry-after": "3"}, b"slow down"), RateLimitError)
