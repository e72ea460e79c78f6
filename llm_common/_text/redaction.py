"""What of a provider's message may be shown: no keys, no prompts, not too long. Pure."""

import re
from collections.abc import Sequence

__all__ = ["Secret", "holds_key", "presentable"]

_LONGEST = 300
#: Shapes of keys: OpenAI/Anthropic/OpenRouter `sk-...`, z.ai `32 hex.16`, Google `AIza...`, `Bearer ...`, `key=...`.
_KEYS = re.compile(
    r"\bsk-[\w*.\-]{4,}|\b[0-9a-f]{32}\.\w{8,}|\bAIza[\w\-]{20,}|(?<=\bBearer )\S+"
    r"|(?<=\bkey=)[^\s&]+|(?<=\btoken=)[^\s&]+|\b(?:gh[pousr]|xox[abp]|gsk|xai)[_-][\w\-]{8,}",
    re.IGNORECASE,
)
#: A run of 24 characters that message and prompt share holds at least one whole window.
_WINDOW = 16
_STRIDE = 8


def holds_key(text: str) -> bool:
    """Whether something in it has the shape of a key."""
    return _KEYS.search(text) is not None


def presentable(message: str, *, secrets: Sequence[str] = (), sent: str = "") -> str:
    """A provider's message in one line of at most 300 characters, with keys and echoed prompt text replaced.

    `secrets` are replaced wherever they stand; `sent` is the text of the request, and every run of 24 or more
    characters that the message shares with it becomes "[...]".
    """
    text = " ".join(message.split())
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    # Only what is shown is compared with the prompt: a prompt may be long, and this runs on the event loop.
    text = _without_echo(_KEYS.sub("[redacted]", text)[: _LONGEST + _WINDOW], " ".join(sent.split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


def _without_echo(text: str, sent: str) -> str:
    if not sent:
        return text
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


class Secret(str):
    """A key or a password. Its repr shows nothing of it, so that no traceback with local variables does."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[hidden]'"
