import html
import json
import re
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from llm_common._text.redaction import _PLACEHOLDERS, Secret, holds_key, presentable, redact

SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=40).filter(
    lambda text: text.strip() and text.lower() not in _PLACEHOLDERS  # those are nobody's
)
SPELLINGS = {
    "plain": str,
    "percent": quote,
    "percent throughout": lambda secret: quote(secret, safe=""),
    "form": quote_plus,
    "html": html.escape,
    "json": lambda secret: json.dumps(secret)[1:-1],
    "base64": lambda secret: b64encode(secret.encode()).decode(),
    "upper": str.upper,
}


@given(SECRETS, st.sampled_from(sorted(SPELLINGS)), st.sampled_from(["", " ", "x", '"', "\n", "://"]))
@example("p@ss/word", "percent", "://")
def test_a_known_secret_is_shown_in_no_spelling(secret, spelling, around):
    """However a provider or a driver writes the secret that was sent, the message does not have it."""
    spelled = SPELLINGS[spelling](secret)
    assume(len(spelled) == len(secret) or spelling != "upper")  # ß is SS
    assume(spelled not in "the server said [redacted] and went")
    shown = redact(f"the server said {around}{spelled}{around} and went", secrets=[secret])
    assert spelled not in shown
    assert shown.startswith("the server said")


def test_a_secret_without_a_sign_has_to_be_named():
    """The control: it is known because it was passed, not by luck."""
    assert "hunter22" in redact("the server said hunter22 and went")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://app:Top/Se@cret77@127.0.0.1:5432/d", "to postgresql://[redacted]@127.0.0.1:5432/d"),
        ("postgresql+asyncpg://a:b@c/d", "postgresql+asyncpg://[redacted]@c/d"),
        ("redis://:pw@h:1/0", "redis://[redacted]@h:1/0"),
        ("https://user:pa/ss@host/x", "https://[redacted]@host/x"),
        ("https://token@host/x", "https://[redacted]@host/x"),
        ("host=h password=Top77 dbname=d", "host=h password=[redacted] dbname=d"),
        (r"host=h password='a \'b c' dbname=d", "host=h password=[redacted] dbname=d"),
        ('{"api_key": "abc def", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("SEARXNG_PASSWORD=hunter2", "SEARXNG_PASSWORD=[redacted]"),
        ("GET /x?key=abc&q=1", "GET /x?key=[redacted]&q=1"),
        ("Authorization: Basic dXNlcjpw", "Authorization: [redacted]"),
        ("sent Basic dXNlcjpwYXNz", "sent Basic [redacted]"),
        ("Bearer abc, ok", "Bearer [redacted], ok"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYSJ9.abc-def", "[redacted]"),
        ("sb_secret_0123456789", "[redacted]"),
        ("tvly-dev-0123456789", "[redacted]"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text, shown):
    """Shapes of keys, values beside telling names, and who signs in with a URL."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://medium.com/@user/post",
        "https://host:8080/@user and a@b.org",
        "Basic information about Basics",
        "api_key is missing; set OPENAI_API_KEY",
        "Unexpected token: }",
        "total_tokens: 5, max_tokens=500",
        'password authentication failed for user "app"',
        "postgresql://127.0.0.1:5432/d",
    ],
)
def test_what_is_no_secret_stays(text):
    """An error without its facts helps nobody."""
    assert redact(text) == text


@given(st.text(st.characters(exclude_categories=[]), max_size=400))
def test_a_message_is_one_line_without_controls(message):
    """Whatever a provider writes, a log line stays a line, and a terminal takes no command from it."""
    shown = presentable(message)
    assert len(shown) <= 300
    assert shown.isascii() or not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_short_lines_of_a_prompt_are_cut_out():
    """A user's line is no run of 24 characters, and still theirs."""
    shown = presentable("Invalid value 'My PIN is 4711'.", sent="You are a bank.\nMy PIN is 4711")
    assert shown == "Invalid value '[...]'."


def test_a_prompt_is_cut_out_as_json_writes_it():
    """Gateways quote the body that they got."""
    prompt = "Überweisung an Zoë Müller, 1.000 Euro"
    assert "Zo" not in presentable(f"bad body: {json.dumps(prompt)}", sent=prompt)


def test_a_short_secret_is_looked_for_as_a_word():
    """A password of two characters does not turn a sentence into blanks."""
    assert redact("at the gate: at", secrets=["at"]) == "[redacted] the gate: [redacted]"
    assert redact("What is that", secrets=["at"]) == "What is that"


def test_a_secret_shows_nothing_in_its_repr():
    """Error trackers print local variables."""
    key = Secret("sk-1234")
    assert repr({"key": key}) == "{'key': '[hidden]'}"
    assert f"{key}" == "sk-1234"


def test_a_key_is_known_by_its_shape():
    """Files that hold one are refused."""
    assert holds_key("sk-proj-0123456789")
    assert not holds_key("password=hunter2")
