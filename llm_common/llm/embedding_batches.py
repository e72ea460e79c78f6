"""Texts → the requests that carry them: checked, and cut to what a provider takes at once. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from llm_common._text.tokens import text_bound
from llm_common.exceptions import InvalidInputError

__all__ = ["MOST_TOKENS", "Batch", "EmbeddingOrder", "batches_of", "checked_texts", "most_texts"]

#: The most tokens of one request, by their upper bound (bytes): OpenAI's limit, which no other is known to be below
#: for as many texts (https://developers.openai.com/api/reference/resources/embeddings).
MOST_TOKENS = 300_000
#: The most texts of one request, as the providers document it.
_MOST_TEXTS: Mapping[str, int] = {
    "openai": 2_048,
    "azure": 2_048,
    "voyage": 1_000,
    "vertex_ai": 250,
    "gemini": 100,
    "zai": 64,
}
#: For everybody else: Cohere's, the lowest that is common.
_ELSEWHERE = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOrder:
    """What the caller wants: a vector for each text. `batch_size` None is the provider's own limit."""

    texts: tuple[str, ...] = field(repr=False)
    dimensions: int | None = None
    batch_size: int | None = None
    concurrency: int = 4
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __post_init__(self) -> None:
        for name, least in (("dimensions", 1), ("batch_size", 1), ("concurrency", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidInputError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one request. `tokens` is the most that they can have together."""

    texts: tuple[str, ...] = field(repr=False)
    tokens: int


def checked_texts(texts: str | Iterable[str]) -> tuple[str, ...]:
    """One text or many, as they are. Raises `InvalidInputError` for none, a blank one, or what is no text."""
    given: tuple[object, ...] = (texts,) if isinstance(texts, str) else tuple(cast("Iterable[object]", texts))
    if not given:
        raise InvalidInputError("texts is empty; give at least one")
    for position, text in enumerate(given):
        if not isinstance(text, str):
            raise InvalidInputError(f"texts[{position}] must be a text, not {type(text).__name__}")
        if not text.strip():
            raise InvalidInputError(
                f"texts[{position}] is blank, and nothing can be said about its meaning; leave it out"
            )
    return cast("tuple[str, ...]", given)


def most_texts(provider: str) -> int:
    """How many texts one request to a provider may have."""
    return _MOST_TEXTS.get(provider, _ELSEWHERE)


def batches_of(texts: Sequence[str], *, most: int, window: int | None) -> list[Batch]:
    """The texts in their order, at most `most` and `MOST_TOKENS` in each batch; a longer text is alone in its own.

    `window` is the most tokens that the model reads of one text; None or 0 where nobody knows.
    """
    batches: list[Batch] = []
    held: list[str] = []
    tokens = 0
    for text in texts:
        bound = min(text_bound(text), window) if window else text_bound(text)
        if held and (len(held) == most or tokens + bound > MOST_TOKENS):
            batches.append(Batch(tuple(held), tokens))
            held, tokens = [], 0
        held.append(text)
        tokens += bound
    batches.append(Batch(tuple(held), tokens))
    return batches
