"""What every contestant is asked to do, and how it is handed over."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

__all__ = ["KEY", "MESSAGES", "MODEL", "Analysis", "Client"]

MODEL: Final = "gpt-6-luna"
KEY: Final = "key"
MESSAGES: Final = [
    {"role": "system", "content": "You analyse legislation. " * 10},
    {"role": "user", "content": "What does this bill change, for whom, and at what cost? " * 5},
]


class Impact(BaseModel):
    title: str
    description: str
    amount_usd: float | None


class Analysis(BaseModel):
    """The structured answer that is asked for: what a host's schema looks like, small."""

    summary: str
    impacts: list[Impact]


@dataclass(frozen=True)
class Client:
    """`call` gives the answer's text, `structured` the validated answer, `stream` the pieces of the text.

    None: not what this contestant is for.
    """

    call: Callable[[], Awaitable[str]] | None = None
    structured: Callable[[], Awaitable[Analysis]] | None = None
    stream: Callable[[], AsyncIterator[str]] | None = None
