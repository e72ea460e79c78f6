"""A claim, and what holds it up: quotes. Whoever analyses another subject writes a `Claim` of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict

from llm_common._text.figures import Unit

__all__ = ["JUDGED", "Citation", "Claim", "Frozen", "Quotation", "Stated", "numbers_of", "texts_of", "title_of"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Quotation(Frozen):
    """An exact quote from one source, by the source's id."""

    source: str
    quote: str


class Citation(Frozen):
    """A quote that was found in its source, as the source spells it: `text[start:end]` of the bill or the source."""

    source_id: str
    title: str
    url: str | None
    quote: str
    start: int
    end: int


class Claim(Frozen):
    """One thing that an analysis says. Subclass it with the fields that yours has; each is checked mechanically.

    Every text, also within nested fields, may only have figures that the claim's own quotes have. A field that is a
    number must be a figure of these quotes (`Stated` says of which kind): otherwise it becomes None where it may be
    None, and takes its claim with it where it may not. A number that is the model's own opinion is `JUDGED`.

        class Fee(Claim):
            name: str
            percent: Annotated[float | None, Stated("percent")] = None
            confidence: Annotated[float | None, JUDGED] = None

    A model that drafts claims gives `Quotation`s; in a result `citations` are those that were found.
    """

    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Stated:
    """Marks a number that a quote has to state, with its unit: "usd", "percent", or "" for any."""

    unit: Unit = ""


@dataclass(frozen=True, slots=True)
class _Judged:
    """See `JUDGED`."""


#: Marks a number that no source states because it is the model's judgement, like a confidence.
JUDGED: Final = _Judged()


def title_of(claim: Claim) -> str:
    """What the claim is called where it is left out: its first text."""
    return next(_texts(claim.model_dump(exclude={"citations"})), type(claim).__name__)


def texts_of(claim: Claim) -> list[str]:
    """Every text of a claim apart from its quotes, and numbers within nested fields as text."""
    outer = {name for name, value in claim if _is_number(value)}
    return list(_texts(claim.model_dump(mode="json", exclude=outer | {"citations"})))


def numbers_of(claim: Claim) -> list[tuple[str, Any, Unit]]:
    """Name, value and unit of each number that a quote has to state."""
    return [
        (name, value, _unit(claim, name)) for name, value in claim if _is_number(value) and not _judged(claim, name)
    ]


def _judged(claim: Claim, name: str) -> bool:
    return JUDGED in type(claim).model_fields[name].metadata


def _unit(claim: Claim, name: str) -> Unit:
    marks = [mark for mark in type(claim).model_fields[name].metadata if isinstance(mark, Stated)]
    return marks[0].unit if marks else ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)
    elif _is_number(value):
        yield str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
