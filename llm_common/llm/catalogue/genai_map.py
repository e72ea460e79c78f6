"""genai-prices' bundled price list, for models that LiteLLM's map does not know: all of OpenRouter's, for a start.

The list comes with the package; nothing is fetched (the package does that only where a host starts its updater).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from llm_common._runtime.fork import fork_safe_lock
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates, Tier

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, MatchLogic, ModelPrice, TieredPrices

__all__ = ["GenaiMap", "genai_map", "in_force"]

# LiteLLM's name of a provider → this list's, where they differ.
_NAMES = {
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "input_image": "input_image_mtok",
    "cache_read_audio": "cache_audio_read_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
}

_reading = fork_safe_lock()


@dataclass(frozen=True, slots=True)
class _Listed:
    prices: "ModelPrice"
    window: int | None


class GenaiMap:
    """Price and window by provider and exact name; what only resembles a listed name is not that model."""

    def __init__(self, listed: Mapping[str, Mapping[str, _Listed]]) -> None:
        self._listed = listed

    def find(self, provider: str, name: str) -> ModelInfo | None:
        listed = self._listed.get(_NAMES.get(provider, provider), {}).get(name.lower())
        if listed is None:
            return None
        return ModelInfo(
            provider=provider,
            name=name,
            max_input_tokens=listed.window,
            price=_price(listed.prices, free=provider == "openrouter" and name.endswith(":free")),
            source="genai-prices",
        )

    def names(self, provider: str) -> tuple[str, ...]:
        return tuple(self._listed.get(_NAMES.get(provider, provider), ()))


def genai_map() -> GenaiMap:
    """The list of the installed package. The first call takes some 0.3 s (its import), the others nothing."""
    with _reading:
        return _read()


@cache
def _read() -> GenaiMap:
    from genai_prices.data import providers  # 1.5 MB of literals: only for who needs them

    today = datetime.now(UTC).date()
    listed: dict[str, dict[str, _Listed]] = {}
    for provider in providers:
        of_provider = listed.setdefault(provider.id, {})
        for model in provider.models:
            row = _Listed(in_force(model.prices, today), model.context_window)
            for name in (model.id, *_exact_names(model.match)):
                of_provider.setdefault(name.lower(), row)
    return GenaiMap(listed)


def _exact_names(match: "MatchLogic") -> Iterator[str]:
    from genai_prices.types import ClauseEquals, ClauseOr

    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _exact_names(clause)


def in_force(prices: "ModelPrice | list[ConditionalPrice]", today: date) -> "ModelPrice":
    """The price of today. Of prices that change with the hour the dearest: this list is read once, not hourly."""
    from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint

    if isinstance(prices, ModelPrice):
        return prices
    latest, hourly = prices[0].prices if prices else ModelPrice(), list[ModelPrice]()
    for conditional in prices:
        constraint = conditional.constraint
        if isinstance(constraint, TimeOfDateConstraint):
            hourly.append(conditional.prices)
        elif not isinstance(constraint, StartDateConstraint) or constraint.start_date <= today:
            latest = conditional.prices
    return max((latest, *hourly), key=lambda price: _at(price.output_mtok, 0) or Decimal(0))


def _price(prices: "ModelPrice", *, free: bool) -> Price | None:
    if not any(value is not None for value in vars(prices).values()) and free:
        # Listed, marked free, and with no price of any kind: https://openrouter.ai/docs/guides/routing/model-variants/free
        return Price(Rates(input=Decimal(0), output=Decimal(0)))
    rates = _rates(prices, 0)
    if rates is None:
        return None
    tiers = ((above, _rates(prices, above + 1)) for above in _thresholds(prices))
    per_thousand = prices.requests_kcount
    fee = _at(per_thousand, 0) or Decimal(0)
    return Price(rates, tuple(Tier(above, later) for above, later in tiers if later), fee / 1000)


def _thresholds(prices: "ModelPrice") -> Iterable[int]:
    values = (getattr(prices, field) for field in _FIELDS.values())
    return sorted({tier.start for value in values for tier in getattr(value, "tiers", ())})


def _rates(prices: "ModelPrice", prompt_tokens: int) -> Rates | None:
    stated = {field: _at(getattr(prices, key), prompt_tokens) for field, key in _FIELDS.items()}
    if stated["input"] is None or stated["output"] is None:
        return None
    if stated["input_image"] is None and stated["input_audio"] is not None:
        stated["input_image"] = stated["input"]  # as its own calculator has it
    return Rates(**{field: rate.scaleb(-6) for field, rate in stated.items() if rate is not None})


def _at(price: "Decimal | TieredPrices | None", prompt_tokens: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return reached[-1] if reached else price.base
