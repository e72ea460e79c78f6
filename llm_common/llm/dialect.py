"""How one server wants to be asked, and what its refusals teach about it. Pure.

Servers that speak OpenAI's protocol differ in a few parameters and in their windows, and say so when they refuse: a
refusal costs nothing, so the same call is made once more in the way that it asks for, and later ones begin with it.
"""

import re
from dataclasses import dataclass, replace
from math import ceil
from urllib.parse import urlsplit

__all__ = ["Dialect", "Refusal", "dialect_of", "is_openai", "refusal_in"]

#: OpenAI's own and regional addresses, and those of its models at Azure.
_OPENAI_HOST = re.compile(
    r"(?:[a-z0-9-]+\.)?api\.openai\.com|[a-z0-9-]+\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us|cn)"
)
_LARGEST_WINDOW = 10**9
_LEAST_ROOM = 1_024


@dataclass(frozen=True, slots=True)
class Dialect:
    """`max_tokens` is how the bound of an answer is called; `stream_options` whether usage can be asked for with it.

    `window` and `output_limit` are in tokens, None where nothing was refused yet. `measured` is a prompt that was: the
    most tokens that it could have had, and how many it had.
    """

    max_tokens: str = "max_tokens"
    stream_options: bool = True
    window: int | None = None
    output_limit: int | None = None
    measured: tuple[int, int] = (1, 0)

    def room(self, prompt_bound: int, wanted: int) -> int:
        """The most tokens that an answer to a prompt of at most `prompt_bound` can have here, `wanted` at most.

        Exact for the prompt that was refused. Another one's length is guessed by it, so that at least 1,024 are left:
        where that is too much, the server says so, while an answer that is cut too early looks like any other.
        """
        most = wanted if self.output_limit is None else min(wanted, self.output_limit)
        if self.window is None:
            return most
        bound, tokens = self.measured
        if prompt_bound == bound:
            return max(1, min(most, self.window - tokens))
        return min(most, max(_LEAST_ROOM, self.window - ceil(prompt_bound * tokens / bound)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refused request says of the limits that it broke, in tokens, and of a parameter that was not welcome."""

    window: int | None = None
    prompt_tokens: int | None = None
    #: Whether the prompt may have more than that.
    at_least: bool = False
    output_limit: int | None = None
    parameter: str | None = None

    def lesson(self, dialect: Dialect, prompt_bound: int) -> Dialect:
        """How the same request may be made so that it is not refused for this; `dialect` where nothing is taught."""
        if self.parameter == "stream_options":
            return replace(dialect, stream_options=False)
        if self.parameter == "max_tokens":
            return replace(dialect, max_tokens="max_completion_tokens")
        if self.output_limit is not None:
            return replace(dialect, output_limit=self.output_limit)
        if self.window is None:
            return dialect
        tokens = self.prompt_tokens
        if tokens is None or self.at_least:
            # A third of the bytes is rarely too few; where it was, no prompt has more than the bound.
            third = (prompt_bound, prompt_bound // 3)
            tokens = third[1] if dialect.measured != third else prompt_bound
        return (
            dialect if tokens >= self.window else replace(dialect, window=self.window, measured=(prompt_bound, tokens))
        )


def is_openai(base_url: str | None) -> bool:
    """Whether OpenAI itself is at an address, or its models at Azure."""
    host = urlsplit(base_url or "").hostname or ""
    return _OPENAI_HOST.fullmatch(host) is not None


def dialect_of(base_url: str | None) -> Dialect:
    """What is known before the first request: OpenAI's reasoning models refuse the old name, others know only that."""
    return _OPENAI if is_openai(base_url) else _COMMON


_COMMON = Dialect()
_OPENAI = Dialect(max_tokens="max_completion_tokens")

_NUMBER = r"[`'\"]?(\d[\d,]*)[`'\"]?"
#: vLLM, SGLang, TGI, llama.cpp, LM Studio, OpenAI, OpenRouter, Together, in their words.
_WINDOWS = tuple(
    re.compile(wording, re.IGNORECASE)
    for wording in (
        rf"context (?:length|window|size)(?: of this model)?\s*(?:is|of|\()\s*(?:only )?{_NUMBER}",
        rf"max_new_tokens[`'\"]? must be <= {_NUMBER}",
        rf"exceeds? (?:the )?(?:available |model'?s? )?context (?:window|size|length)\s*(?:of|\()\s*{_NUMBER}",
        rf'"?n_ctx"?\s*[:=]\s*{_NUMBER}',
    )
)
_PROMPTS = tuple(
    re.compile(wording, re.IGNORECASE)
    for wording in (
        rf"(?:request|prompt) (?:has|contains)(?P<least> at least)? {_NUMBER} (?:input )?tokens",
        rf"passed {_NUMBER} input tokens",
        rf"\({_NUMBER} (?:in the messages|of text input|in your prompt|tokens from the input)",
        rf"{_NUMBER} tokens from the input messages",
        rf"Given: {_NUMBER} `inputs` tokens",
        rf'"?n_prompt_tokens"?\s*[:=]\s*{_NUMBER}',
    )
)
#: OpenAI and Azure, Anthropic, DeepSeek, Groq.
_OUTPUTS = tuple(
    re.compile(wording, re.IGNORECASE)
    for wording in (
        rf"supports at most {_NUMBER} completion tokens",
        rf"max_tokens: \d+ > {_NUMBER}",
        rf"valid range of max_tokens is \[\d+, ?{_NUMBER}\]",
        rf"max_(?:completion_)?tokens[`'\"]? must be less than or equal to {_NUMBER}",
    )
)
_WANTS_NEW_NAME = re.compile(r"max_tokens\b.{0,120}max_completion_tokens", re.IGNORECASE | re.DOTALL)
_REFUSES = re.compile(
    r"not support|unsupported|unrecogni[sz]ed|unknown|not permitted|forbidden|unexpected|not allowed|invalid|extra",
    re.IGNORECASE,
)


def refusal_in(wording: str) -> Refusal | None:
    """What the wording of a refused request teaches; None where nothing."""
    if output := _number(_OUTPUTS, wording):
        return Refusal(output_limit=output[0])
    if window := _number(_WINDOWS, wording):
        prompt = _number(_PROMPTS, wording)
        tokens, at_least = prompt or (None, False)
        return Refusal(window=window[0], prompt_tokens=tokens, at_least=at_least)
    if not _REFUSES.search(wording):
        return None
    if "stream_options" in wording:
        return Refusal(parameter="stream_options")
    return Refusal(parameter="max_tokens") if _WANTS_NEW_NAME.search(wording) else None


def _number(wordings: tuple[re.Pattern[str], ...], text: str) -> tuple[int, bool] | None:
    for wording in wordings:
        if found := wording.search(text):
            number = int(next(group for group in reversed(found.groups()) if group).replace(",", ""))
            least = "least" in wording.groupindex and found["least"] is not None
            return (number, least) if 0 < number < _LARGEST_WINDOW else None
    return None
