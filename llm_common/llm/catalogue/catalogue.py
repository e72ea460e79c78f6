"""What is known about each model: price, sizes, abilities.

Host overrides come first, then LiteLLM's bundled map, then genai-prices. Nothing is fetched, no SDK is imported.
The maps are read when first needed, once per process (LiteLLM's some 50 ms, genai-prices' some 300 ms): ask in a
thread the first time, or `load()` in one. Afterwards an answer is one dictionary lookup.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from llm_common.exceptions import InvalidInputError
from llm_common.llm.catalogue.genai_map import genai_map
from llm_common.llm.catalogue.litellm_map import litellm_map, model_info, provider_of
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates

__all__ = ["VENDORS", "Catalogue", "ModelInfo"]

#: Provider → the name under which OpenRouter lists its models.
VENDORS: Mapping[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "zai": "z-ai",
    "gemini": "google",
    "xai": "x-ai",
    "mistral": "mistralai",
    "deepseek": "deepseek",
    "moonshot": "moonshotai",
    "cohere": "cohere",
    "minimax": "minimax",
}
_PROVIDERS = {vendor: provider for provider, vendor in VENDORS.items()}

_DATE = re.compile(r"[-@]20\d{2}-?[01]\d-?[0-3]\d$")
_FINE_TUNED = re.compile(r"(ft:[^:]+):")
# Names of a family that are newer than the maps still belong to its maker.
_FAMILIES = {"gpt-": "openai", "claude-": "anthropic", "glm-": "zai"}
# OpenRouter's variants: https://openrouter.ai/docs/guides/routing/model-variants
_VARIANT = re.compile(r"(.+):[a-z]+")
_SAME_PRICE_VARIANTS = (":floor",)  # the cheapest host of the same model; others are dearer, free, or add a search


class Catalogue:
    """Looks models up. Safe from threads.

    `overrides` go by the name that you use for the model: `zai/glm-4.6`, `openrouter/z-ai/glm-4.6`, or a bare
    `glm-4.6`, which binds whichever provider it comes from. A `Price` replaces the price alone, a `ModelInfo` all
    that is known.
    A name with its provider also makes a model known that no map has yet.
    """

    def __init__(self, overrides: Mapping[str, Price | ModelInfo] | None = None) -> None:
        self._overrides = dict(overrides or {})
        if any(not name.strip() for name in self._overrides):
            raise InvalidInputError("a price override has an empty name; use the model's, for example zai/glm-4.6")
        self._remembered = lru_cache(maxsize=4096)(self._search)

    def load(self) -> None:
        """Read both maps now. Blocks for some 0.4 s, so call it in a thread."""
        litellm_map()
        genai_map()

    def find(self, provider: str, name: str) -> ModelInfo | None:
        """What is known about a provider's model; None if nobody knows one of that name.

        A dated name that is not listed itself (`gpt-4o-2099-01-31`) is its undated model, a fine-tuned one
        (`ft:gpt-4o-2024-08-06:org::id`) its base's, and a variant on OpenRouter (`:nitro`, `:online`, an unlisted
        `:free`) its model without a price, because that is another one.
        """
        return self._remembered(provider, name)

    def home_of(self, name: str) -> str | None:
        """The provider that a bare name belongs to: its maker before resellers. None if neither map nor family tells.

        The name itself need not be known: `gpt-99` is OpenAI's, if it is anything.
        """
        for key in self._overrides:
            provider, slash, own = key.partition("/")
            if slash and own == name:
                return _PROVIDERS.get(provider, provider)
        known = litellm_map()
        for spelling in _spellings(name):
            for maker in VENDORS:
                if known.find(maker, spelling):
                    return maker
            entry = known.entries.get(spelling)
            if entry:
                return provider_of(entry)
        for prefix, maker in _FAMILIES.items():
            if name.startswith(prefix):
                return maker
        makers = (maker for spelling in _spellings(name) for maker in VENDORS if genai_map().find(maker, spelling))
        return next(makers, None)

    def is_provider(self, name: str) -> bool:
        """Whether LiteLLM's map has models of a provider of that name."""
        return name in litellm_map().providers

    def vendor_of(self, name: str) -> str | None:
        """The vendor under which OpenRouter alone lists a bare name; None without one, and with several."""
        listed = {vendor for vendor, slash, own in self._on_openrouter() if slash and own == name.lower()}
        return listed.pop() if len(listed) == 1 else None

    def is_vendor(self, name: str) -> bool:
        """Whether OpenRouter lists models of a vendor of that name."""
        return any(vendor == name for vendor, slash, _ in self._on_openrouter() if slash)

    def near_matches(self, name: str, provider: str | None = None) -> tuple[str, ...]:
        """At most five names that look like a mistyped one, nearest first; of one provider, or of all makers."""
        from rapidfuzz import fuzz, process  # only where something was mistyped

        choices = dict(self._names(provider))
        wanted = name.lower().rpartition("/")[2]
        found = process.extract(wanted, choices, scorer=fuzz.ratio, limit=5, score_cutoff=70)
        return tuple(shown for _, _, shown in found)

    def _names(self, provider: str | None) -> Iterator[tuple[str, str]]:
        """Each name as it is used, and without its provider."""
        known = litellm_map()
        for full, entry in known.entries.items():
            owner = provider_of(entry)
            if owner == provider or (provider is None and owner in VENDORS):
                yield full, full.rpartition("/")[2].lower()
        if provider == "openrouter":
            for vendor, slash, own in self._on_openrouter():
                if slash:
                    yield f"openrouter/{vendor}/{own}", own
        for full in self._overrides:
            if provider is None or full.startswith(f"{provider}/"):
                yield full, full.rpartition("/")[2].lower()

    def _on_openrouter(self) -> Iterator[tuple[str, str, str]]:
        return (name.partition("/") for name in genai_map().names("openrouter"))

    def _search(self, provider: str, name: str) -> ModelInfo | None:
        mapped = _openrouter(name) if provider == "openrouter" else _mapped(provider, name)
        vendor = VENDORS.get(provider, provider)
        for key in (f"{provider}/{name}", f"{vendor}/{name}", name):
            override = self._overrides.get(key)
            if isinstance(override, ModelInfo):
                return replace(override, source="override")
            if override is not None:
                known = mapped or ModelInfo(provider=provider, name=name)
                return replace(known, price=override, source="override")
        return mapped


def _mapped(provider: str, name: str) -> ModelInfo | None:
    for spelling in _spellings(name):
        entry = litellm_map().find(provider, spelling)
        info = model_info(provider, name, entry) if entry else None
        if info and info.price:
            return info
        second = genai_map().find(provider, spelling)
        if info and second and second.price:
            return replace(info, price=second.price, source=second.source)
        found = info or second
        if found:
            return replace(found, name=name)
    return None


def _openrouter(name: str) -> ModelInfo | None:
    """OpenRouter's price and window with the maker's knowledge of what the model can do."""
    listed = _mapped("openrouter", name)
    if listed is None:
        variant = _VARIANT.fullmatch(name)
        base = _openrouter(variant[1]) if variant else None
        if base is None or name.endswith(_SAME_PRICE_VARIANTS):
            return base and replace(base, name=name)
        return replace(base, name=name, price=None)
    vendor, _, own = name.partition(":")[0].partition("/")
    maker = _PROVIDERS.get(vendor)
    made = (_mapped(maker, own) or _mapped(maker, own.replace(".", "-"))) if maker else None
    if made is None:
        return listed
    return replace(
        made,
        provider="openrouter",
        name=name,
        max_input_tokens=listed.max_input_tokens or made.max_input_tokens,
        price=listed.price and _with_long_writes(listed.price, made.price),
        source=listed.source,
    )


def _with_long_writes(price: Price, made: Price | None) -> Price:
    """OpenRouter's list leaves out what an hour in Anthropic's cache costs: as many times the input as at Anthropic."""
    if made is None or made.rates.cache_write_1h is None or not made.rates.input:
        return price
    factor = made.rates.cache_write_1h / made.rates.input

    def completed(rates: Rates) -> Rates:
        return replace(rates, cache_write_1h=rates.input * factor) if rates.cache_write_1h is None else rates

    tiers = tuple(replace(tier, rates=completed(tier.rates)) for tier in price.tiers)
    return replace(price, rates=completed(price.rates), tiers=tiers)


def _spellings(name: str) -> Iterator[str]:
    yield name
    undated = _DATE.sub("", name)
    if undated != name:
        yield undated
    fine_tuned = _FINE_TUNED.match(name)
    if fine_tuned:
        yield fine_tuned[1]
