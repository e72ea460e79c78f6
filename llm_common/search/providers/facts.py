"""What is known of one search service over HTTP: a frozen value, in a file of the service's own. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from llm_common.search.filters import Abilities
from llm_common.search.query import SearchRequest

__all__ = ["Fields", "HitFields", "Outgoing", "ProviderFacts", "Refusal", "bearer", "below"]

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request: its parameters for the address, or its JSON body."""

    method: Literal["GET", "POST"]
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a service says instead of hits, in its own words.

    `kind` says what the status does not: `quota`, the account has nothing left; `busy`, asking again shortly may help;
    `key`, the key was refused.
    """

    code: object = None
    message: object = None
    kind: Literal["quota", "busy", "key"] | None = None


@dataclass(frozen=True, slots=True)
class HitFields:
    """Under which names a hit has its parts. Of `published` the first that is filled counts; lists are joined."""

    url: str = "url"
    title: str = "title"
    snippet: str = "content"
    published: tuple[str, ...] = ()
    score: str = "score"


def bearer(key: str) -> Mapping[str, str]:
    """The header of RFC 6750; none without a key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def below(body: object, *names: str) -> Any:
    """What stands below `names` in JSON that may be anything; None where there is no such thing."""
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return body  # pyright: ignore[reportUnknownVariableType]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFacts:
    """One search service. `FACTS` in a module of this package makes it known by `name`, and nothing else is needed.

    `base_url` is what precedes `path`, None for a service without an address of its own. `key_variables` and
    `url_variables` are read from the environment, the first that is set; a service without `key_variables` needs no
    key. `price_usd` is the list price of a request to `engine`. Where several services are ready, the CLI asks them in
    the order of `rank`.

    `hits` gives the list of hits in a JSON object that came with status 200, a `Refusal`, or whatever stands there in
    the list's place; `refusal` reads any other answer. The advices are whole sentences: what to do when nothing is
    left, and when the key is refused.
    """

    name: str
    label: str
    engine: str
    path: str
    base_url: str | None
    url_variables: tuple[str, ...]
    key_variables: tuple[str, ...] = ()
    price_usd: Decimal
    abilities: Abilities
    rank: int = 100
    headers: Callable[[str], Mapping[str, str]] = bearer
    encode: Callable[[SearchRequest], Outgoing]
    hits: Callable[[Fields], object] = lambda body: body.get("results")
    fields: HitFields = HitFields()
    refusal: Callable[[int, object], Refusal]
    quota_advice: str = ""
    key_advice: str

    @property
    def variables(self) -> str:
        """What to set, for a message: `BRAVE_API_KEY or BRAVE_SEARCH_API_KEY`."""
        return " or ".join(self.key_variables or self.url_variables)
