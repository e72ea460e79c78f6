"""What of a foreign text may be shown: no keys, no passwords, no prompts, no controls, not too long. Pure.

Whatever comes from a provider, a driver, a library or a model goes through here before it enters an error, a log line,
a table or a terminal.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final
from urllib.parse import quote, quote_plus

from llm_common._text.controls import visible

__all__ = ["Secret", "holds_key", "presentable", "redact"]

_REDACTED: Final = "[redacted]"
_LONGEST: Final = 300
#: Nobody reads more of a message, and the event loop waits while it is searched.
_LONGEST_SEARCHED: Final = 4_000
#: Shapes of keys: OpenAI/Anthropic/OpenRouter `sk-...`, z.ai `32 hex.16`, Google, AWS, search services, Supabase, ...
_KEY: Final = (
    r"\bsk-[\w*.\-]{4,}|\b[0-9a-f]{32}\.\w{8,}|\bAIza[\w\-]{20,}|\bya29\.[\w\-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\b(?:tvly|pplx|nvapi|glpat)-[\w\-]{8,}|\b(?:gh[pousr]|github_pat|xox[abprs]|gsk|xai|hf|r8)[_-][\w\-]{8,}"
    r"|\bsb_(?:secret|publishable)_[\w\-]{6,}|\beyJ[\w\-]{6,}\.[\w\-]{4,}(?:\.[\w\-]*)?"
)
#: A value beside a name that tells: `Authorization: Basic ...`, `"api_key": "..."`, `password=...`, `?key=...`.
_NAMED: Final = (
    r"(?<=\bBearer )[^\s\"',]+|(?<=\bBasic )(?-i:[A-Za-z]*(?:[A-Z0-9+/]|=+(?!\w))[A-Za-z0-9+/]+=*|[A-Za-z0-9+/]{6,}=+)"
    r"|(?P<name>\b(?:[\w\-]*(?:api[_-]?key|password|passwd|pwd|secret)|authorization|access[_-]?token)[\"']?\s*[=:]\s*"
    r"|\b(?:key|token|sig|signature)=)(?P<value>(?:(?:Basic|Bearer|Token)\s+)?"
    r"(?:\"[^\"]*\"?|'(?:\\.|[^'\\])*'?|[^\s&,;\"']+))"
)
#: Who signs in, in a URL. Passwords are often not percent-encoded, so it reaches up to the last @ of a database's URL.
_USER: Final = (
    r"(?<=://)(?:(?<=sql://)|(?<=postgres://)|(?<=redis://)|(?<=mongodb://)|(?<=amqp://))[^\s\"'<>]{1,500}(?=@)"
    r"|(?<=://)(?:[^\s/@:\"'<>]{0,200}:(?!\d{1,5}/)[^\s@\"'<>]{0,500}|[^\s/@:\"'<>]{1,200})(?=@)"
)
#: A run of 24 characters that message and prompt share holds at least one whole window.
_WINDOW: Final = 16
_STRIDE: Final = 8
#: A secret of fewer characters stands in too many words: only as a word of its own is it replaced.
_SHORT_SECRET: Final = 4
#: What manuals of local servers have people write for a key that nobody looks at.
_PLACEHOLDERS: Final = frozenset(
    {"-", "api-key", "dummy", "empty", "fake", "key", "lm-studio", "local", "no-key", "none", "not-needed", "null"}
    | {"ollama", "placeholder", "test", "token", "unused", "vllm", "x", "xxx"}
)
#: A line of a prompt that is shorter than a run, but long enough to be told from a word.
_SHORTEST_ECHO: Final = 8


class Secret(str):
    """A key or a password. Its repr shows nothing of it, so that no traceback with local variables does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[hidden]'"


def holds_key(text: str) -> bool:
    """Whether something in it has the shape of a key."""
    return _compiled(_KEY).search(text) is not None


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """The text with `[redacted]` for each secret, in lines as they are, and controls made visible.

    `secrets` are replaced however they are spelled (percent-encoded, in JSON, in HTML, in base64, in any case); besides
    them whatever has the shape of a key, stands beside a name like `password=`, or signs in with a URL.
    """
    if known := _spellings(secrets):
        text = re.sub("|".join(known), _REDACTED, text, flags=re.IGNORECASE)
    return visible(_compiled(f"{_KEY}|{_NAMED}|{_USER}").sub(_replacement, text))


def presentable(message: str, *, secrets: Iterable[str] = (), sent: str = "") -> str:
    """A foreign message in one line of at most 300 characters, redacted, and without what it echoes.

    `sent` is the text of the request: every run of 24 or more characters that the message shares with it, and every
    line of it of 8 or more, becomes `[...]`.
    """
    text = " ".join(redact(message[:_LONGEST_SEARCHED], secrets=secrets).split())
    # Only what is shown is compared with the prompt: a prompt may be long, and this runs on the event loop.
    text = _without_echo(text[: _LONGEST + _WINDOW], sent)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # When it is needed: at import it would cost as much as a tenth of the package.
    return re.compile(pattern, re.IGNORECASE)


def _replacement(found: re.Match[str]) -> str:
    return (found["name"] or "") + _REDACTED


def _spellings(secrets: Iterable[str]) -> Sequence[str]:
    """Regular expressions for each way in which a secret may be written, the longest first."""
    import html  # its table of names is large, and an error is rare

    forms: set[str] = set()
    for secret in secrets:
        if not secret or secret.lower() in _PLACEHOLDERS:
            continue
        forms |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), html.escape(secret)}
        forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        forms.add(b64encode(secret.encode(errors="replace")).decode().rstrip("="))
    return [_whole_word(form) for form in sorted(forms, key=len, reverse=True)]


def _whole_word(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _SHORT_SECRET else rf"(?<!\w){escaped}(?!\w)"


def _without_echo(text: str, sent: str) -> str:
    lines = {" ".join(line.split()) for line in sent.splitlines() if line}
    for line in sorted(lines, key=len, reverse=True):
        if _SHORTEST_ECHO <= len(line) < _WINDOW + _STRIDE and line in text:
            text = text.replace(line, "[...]")
    for spelled in {" ".join(sent.split()), json.dumps(sent)[1:-1]} if sent else ():
        text = _without_runs(text, spelled)
    return text


def _without_runs(text: str, sent: str) -> str:
    echoed = bytearray(len(text))
    for start in range(0, len(text) - _WINDOW + 1, _STRIDE):
        low, high = start, start + _WINDOW
        if text[low:high] in sent:
            while low > 0 and text[low - 1 : high] in sent:
                low -= 1
            while high < len(text) and text[low : high + 1] in sent:
                high += 1
            echoed[low:high] = b"\1" * (high - low)
    kept = "".join("\0" if hidden else character for character, hidden in zip(text, echoed, strict=True))
    return re.sub("\0+", "[...]", kept)
