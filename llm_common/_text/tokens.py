"""How many tokens a text has: a bound that is never too small, a count that is nearly exact, and two cheap guesses.

The bound is what budgets reserve for. A token of a byte-pair tokenizer stands for at least one byte of text, so bytes
bound tokens. The count is what decides whether a prompt fits a window; it runs the tokenizer, so call it in a thread.
`estimate` is rarely too low, for texts that are fitted into a prompt; `likely` is the middle, for rate limits.
"""

import json
import os
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

__all__ = [
    "FILE_TOKENS",
    "IMAGE_TOKENS",
    "count",
    "estimate",
    "fits",
    "format_bound",
    "likely",
    "text_bound",
    "upper_bound",
]

#: The most that one image counts for: gpt-4o-mini at high detail, 2,833 + 8 tiles x 5,667
#: (https://developers.openai.com/api/docs/guides/images-vision). Most models count a thirtieth of it.
IMAGE_TOKENS = 48_169
#: The most that one file counts for: the 100 pages that providers take, each 3,000 tokens of text and 2,000 of picture
#: (https://platform.claude.com/docs/en/build-with-claude/pdf-support).
FILE_TOKENS = 500_000
# Speech costs at most 32 tokens a second (Gemini), and a second of it has no less than 500 characters of base64.
_AUDIO_CHARACTERS_PER_TOKEN = 15
# What a provider writes around each message, each part, and in front of tools or a schema
# (Anthropic's own instructions for tools are up to 700 tokens).
_PER_MESSAGE = 16
_PER_PART = 4
_PER_PROMPT = 64
_FOR_TOOLS = 1_024
_FOR_SCHEMA = 512
# For the count: what an image and a page usually are, and OpenAI's framing of messages
# (https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken).
_USUAL_IMAGE_TOKENS = 1_600
_USUAL_BYTES_PER_FILE_TOKEN = 12
_USUAL_PER_MESSAGE = 4
_USUAL_BYTES_PER_TOKEN = 4
# Tokenizers put at least three bytes into a token of ordinary text.
_LEAST_BYTES_PER_TOKEN = 3
# A run without a break is what slows the tokenizer down; cutting adds at most a token per piece.
_PIECE = 50_000

_loading = threading.Lock()

Texts = Iterable[Mapping[str, Any]]
_Measure = Callable[[str], int]


def upper_bound(messages: Texts, tools: Texts = ()) -> int:
    """The most tokens that a prompt in OpenAI's shapes can have, for any byte-pair tokenizer. O(bytes), no tables.

    Images and files count as `IMAGE_TOKENS` and `FILE_TOKENS`, whatever their size. The result can be beyond a
    model's window; no prompt that is answered is.
    """
    total = _PER_PROMPT
    for message in messages:
        total += _PER_MESSAGE + _of_value(message, _bytes, _part_bound)
    if tools := list(tools):
        total += _FOR_TOOLS + _json_bytes(tools)
    return total


def format_bound(response_format: Mapping[str, Any]) -> int:
    """The most tokens that a `response_format` adds to a prompt."""
    return _FOR_SCHEMA + _json_bytes(response_format)


def text_bound(text: str) -> int:
    """The most tokens that a bare text can have, with the two that some models put around it."""
    return _bytes(text) + 2


def estimate(text: str, *, messages: int = 0) -> int:
    """A guess without a tokenizer that is rarely too low: three bytes a token, and four tokens around each message."""
    return messages * _USUAL_PER_MESSAGE - (-_bytes(text) // _LEAST_BYTES_PER_TOKEN)


def likely(bound: int) -> int:
    """About how many tokens there are where the bound says at most `bound`: four bytes a token."""
    return -(-bound // _USUAL_BYTES_PER_TOKEN)


def count(
    messages: Texts,
    tools: Texts = (),
    response_format: Mapping[str, Any] | None = None,
    *,
    model: str = "",
) -> int:
    """Nearly how many tokens a prompt has: exact text for OpenAI's models, an estimate for others.

    Uses tiktoken with the vocabularies that LiteLLM brings along; never fetches one. Without them it is a quarter of
    the bytes. Takes seconds for long prompts (it lets other threads run): call it in a thread.
    """
    measure = _tokenizer(model)
    total = 3
    for message in messages:
        total += _USUAL_PER_MESSAGE + _of_value(message, measure, _part_usual)
    if tools := list(tools):
        total += measure(json.dumps(tools, ensure_ascii=False, default=str))
    if response_format:
        total += measure(json.dumps(response_format, ensure_ascii=False, default=str))
    return total


def fits(window: int | None, prompt_tokens: int) -> bool:
    """Whether a prompt fits a model's window; one that nobody knows is not held against it.

    Try `upper_bound` first, and `count` only where that does not fit: a long prompt is then a third or so of its bound.
    """
    return window is None or prompt_tokens <= window


def _of_value(value: Any, measure: _Measure, part: Callable[[Mapping[str, Any]], int | None]) -> int:
    """Everything that is text in a message, keys too; media by their kind."""
    if isinstance(value, str):
        return measure(value)
    if isinstance(value, (dict, Mapping)):  # a dict is known at once, by its type
        mapping = cast("Mapping[str, Any]", value)
        if "type" in mapping and (media := part(mapping)) is not None:
            return media
        return sum([_of_item(key, item, measure, part) for key, item in mapping.items()])
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return sum(_PER_PART + _of_value(item, measure, part) for item in items)
    return 0 if value is None else measure(str(value))


def _of_item(key: str, item: Any, measure: _Measure, part: Callable[[Mapping[str, Any]], int | None]) -> int:
    if key in _JSON_TEXT:
        # Providers may write these out anew, with other escapes: the longest writing counts.
        return _json_bytes(item) if measure is _bytes else measure(json.dumps(item, ensure_ascii=False, default=str))
    # Names of fields are the provider's framing, which is counted per message.
    framing = _PER_PART if measure is _bytes else 0
    return framing + (measure(item) if isinstance(item, str) else _of_value(item, measure, part))


_JSON_TEXT = frozenset({"tool_calls", "function_call"})


def _bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    size = len(text.encode(errors="surrogatepass"))
    # Some tokenizers take the compatibility form first, which can be longer: one character of U+FDFA is eighteen.
    if unicodedata.is_normalized("NFKC", text):
        return size
    return max(size, len(unicodedata.normalize("NFKC", text).encode(errors="surrogatepass")))


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=True, default=str))


def _part_bound(part: Mapping[str, Any]) -> int | None:
    match _kind(part):
        case "image":
            return IMAGE_TOKENS
        case "file":
            return FILE_TOKENS
        case "audio":
            return _PER_PART + len(_data(part)) // _AUDIO_CHARACTERS_PER_TOKEN
        case _:
            return None


def _part_usual(part: Mapping[str, Any]) -> int | None:
    match _kind(part):
        case "image":
            return _USUAL_IMAGE_TOKENS
        case "file":
            return len(_data(part)) // _USUAL_BYTES_PER_FILE_TOKEN
        case "audio":
            return len(_data(part)) // (_AUDIO_CHARACTERS_PER_TOKEN * 10)
        case _:
            return None


def _kind(part: Mapping[str, Any]) -> str | None:
    """`image`, `file` (videos too) or `audio` for a part in OpenAI's or Anthropic's shape; None for what is text."""
    kind = part.get("type")
    if kind in ("image_url", "input_image", "image"):
        return "image"
    if kind in ("file", "input_file", "document", "video_url", "video"):
        source: Any = part.get("source")
        written = isinstance(source, Mapping) and cast("Mapping[str, Any]", source).get("type") in ("text", "content")
        return None if written else "file"
    return "audio" if kind in ("input_audio", "audio") else None


def _data(part: Mapping[str, Any]) -> str:
    """The longest text in a part: its base64 data, where it brings them along."""
    longest = ""
    for value in part.values():
        inner: Any = _data(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
        if isinstance(inner, str) and len(inner) > len(longest):
            longest = inner
    return longest


def _tokenizer(model: str) -> _Measure:
    older = model.rpartition("/")[2].startswith(("gpt-3.5", "gpt-4-", "text-embedding-")) or model.endswith("gpt-4")
    with _loading:
        encode = _encoder("cl100k_base" if older else "o200k_base")
    if encode is None:
        return lambda text: likely(_bytes(text))

    def measure(text: str) -> int:
        return sum(len(encode(text[start : start + _PIECE])) for start in range(0, len(text), _PIECE))

    return measure


@cache
def _encoder(name: str) -> Callable[[str], list[int]] | None:
    folder = _vocabularies(name)
    if folder is None:
        return None
    import tiktoken  # 0.1 s and a table of 200,000 entries: only for prompts that the bound does not settle

    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name).encode_ordinary
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def _vocabularies(name: str) -> Path | None:
    """Where LiteLLM keeps the vocabulary: under the name that tiktoken's cache gives the file's address."""
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    cached_as = sha1(address.encode(), usedforsecurity=False).hexdigest()
    spec = find_spec("litellm")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        vocabularies = Path(folder) / "litellm_core_utils" / "tokenizers"
        if (vocabularies / cached_as).is_file():
            return vocabularies
    return None
