"""LiteLLM's bundled map of models: read from its file, without importing LiteLLM and without the network."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import ConfigurationError
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates, Tier

__all__ = ["Entry", "LiteLLMMap", "litellm_map", "model_info"]

#: One model's entry, as it stands in the file; numbers with a point are `Decimal`.
Entry = Mapping[str, Any]

_FILE = "model_prices_and_context_window_backup.json"
_MODES = frozenset({"chat", "responses", "completion", "embedding"})
# Names that LiteLLM gives the parts of one provider's platform.
_PLATFORMS = {
    "bedrock_converse": "bedrock",
    "cohere_chat": "cohere",
    "text-completion-openai": "openai",
    "text-completion-codestral": "codestral",
}
_RATE_KEYS = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "input_audio": "input_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "output_audio": "output_cost_per_audio_token",
    "output_image": "output_cost_per_image_token",
}
# The end is part of it: the same keys with `_priority`, `_batches`, ... behind belong to other service tiers.
_TIER_KEY = re.compile(rf"({'|'.join(_RATE_KEYS.values())})_above_(\d+)(k?)_tokens")
# xAI bills the dearer tier from the threshold on, the others beyond it (as LiteLLM's own calculator has it).
# OpenAI's search models (https://developers.openai.com/api/docs/pricing), for example gpt-4o-search-preview.
_ALWAYS_SEARCHES = re.compile(r"^gpt-.*-search-(preview|api)")
_FROM_THRESHOLD_ON = frozenset({"xai"})

_NEEDED_KEYS = frozenset(
    {
        "input_cost_per_request",
        "input_cost_per_token_cache_hit",
        "litellm_provider",
        "max_input_tokens",
        "max_output_tokens",
        "mode",
        "search_context_cost_per_query",
        "supports_function_calling",
        "supports_reasoning",
        "supports_response_schema",
        "supports_sampling_params",
        "supports_vision",
        "tiered_pricing",
        *_RATE_KEYS.values(),
    }
)

_reading = fork_safe_lock()


class LiteLLMMap:
    """The entries for models that answer with text or vectors."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        # Most of each entry is about what is never asked here.
        self.entries = {name: _needed(entry) for name, entry in entries.items() if entry.get("mode") in _MODES}
        self.providers = frozenset(map(provider_of, self.entries.values()))

    def find(self, provider: str, name: str) -> Entry | None:
        """The entry of a provider's model: `zai/glm-4.6` under its full name, `gpt-4o` as OpenAI's own."""
        entry = self.entries.get(f"{provider}/{name}")
        if entry is None:
            entry = self.entries.get(name)
        return entry if entry is not None and provider_of(entry) == provider else None


def litellm_map() -> LiteLLMMap:
    """The map of the installed LiteLLM. The first call reads 3 MB (some 50 ms), the others nothing."""
    with _reading:
        return _read()


@cache
def _read() -> LiteLLMMap:
    spec = find_spec("litellm")
    folders = (spec.submodule_search_locations if spec else None) or []
    for path in (Path(folder) / _FILE for folder in folders):
        if path.is_file():
            return LiteLLMMap(json.loads(path.read_bytes(), parse_float=Decimal))
    raise ConfigurationError(
        f"LiteLLM's price map {_FILE} was not found beside the installed litellm ({folders or 'not installed'}); "
        "install the litellm version that requirements.lock names"
    )


def _needed(entry: Entry) -> Entry:
    return {key: value for key, value in entry.items() if key in _NEEDED_KEYS or _TIER_KEY.fullmatch(key)}


def provider_of(entry: Entry) -> str:
    """The provider's name as it stands before a model's name: `vertex_ai-anthropic_models` is `vertex_ai`."""
    name = str(entry.get("litellm_provider"))
    return _PLATFORMS.get(name) or ("vertex_ai" if name.startswith("vertex_ai-") else name)


def model_info(provider: str, name: str, entry: Entry) -> ModelInfo:
    return ModelInfo(
        provider=provider,
        name=name,
        max_input_tokens=entry.get("max_input_tokens"),
        max_output_tokens=entry.get("max_output_tokens"),
        price=_price(name, entry),
        supports_json_schema=bool(entry.get("supports_response_schema")),
        supports_tools=bool(entry.get("supports_function_calling")),
        reasons=bool(entry.get("supports_reasoning")),
        takes_temperature=_takes_temperature(entry),
        source="litellm",
    )


def _takes_temperature(entry: Entry) -> bool | None:
    """OpenAI's reasoning models refuse every temperature but their default one while they reason."""
    stated: bool | None = entry.get("supports_sampling_params")
    refuses = stated is None and entry.get("litellm_provider") == "openai" and entry.get("supports_reasoning")
    return False if refuses else stated


def _price(name: str, entry: Entry) -> Price | None:
    ranges: list[Entry] = entry.get("tiered_pricing") or []
    if ranges:
        (_, rates), *above = [(int(tier["range"][0]), _rates(_stated(tier), entry)) for tier in ranges]
        tiers = tuple(Tier(start, later) for start, later in above if later)
    else:
        rates = _rates(_stated(entry), entry)
        tiers = _tiers(entry)
    return None if rates is None else Price(rates, tiers, *_fees(name, entry))


def _stated(entry: Entry) -> dict[str, Decimal]:
    stated = {field: entry.get(key) for field, key in _RATE_KEYS.items()}
    if stated["cache_read"] is None:
        stated["cache_read"] = entry.get("input_cost_per_token_cache_hit")
    return {field: Decimal(rate) for field, rate in stated.items() if rate is not None}


def _rates(stated: Mapping[str, Decimal], entry: Entry) -> Rates | None:
    output = stated.get("output")
    if output is None and entry.get("mode") == "embedding":
        output = Decimal(0)  # vectors are not billed by the token
    if "input" not in stated or output is None:
        return None
    # Sound's rate is not that of pictures: the map states one where they are not billed as text.
    pictures = {"input_image": stated["input"]} if "input_audio" in stated and entry.get("supports_vision") else {}
    return Rates(**{**pictures, **stated, "output": output})


def _tiers(entry: Entry) -> tuple[Tier, ...]:
    """The long-context tiers. A rate that a tier does not state stays what it was below."""
    by_threshold: dict[int, dict[str, Decimal]] = {}
    fields = {key: field for field, key in _RATE_KEYS.items()}
    for key, rate in entry.items():
        match = _TIER_KEY.fullmatch(key)
        if match and rate is not None:
            threshold = int(match[2]) * (1000 if match[3] else 1)
            by_threshold.setdefault(threshold, {})[fields[match[1]]] = Decimal(rate)
    inclusive = entry.get("litellm_provider") in _FROM_THRESHOLD_ON
    stated, tiers = _stated(entry), list[Tier]()
    for threshold, rates in sorted(by_threshold.items()):
        stated = {**stated, **rates}
        merged = _rates(stated, entry)
        if merged:
            tiers.append(Tier(threshold - 1 if inclusive else threshold, merged))
    return tuple(tiers)


def _fees(name: str, entry: Entry) -> tuple[Decimal, Decimal | None]:
    """The fee of each request, and of each search that the provider counts.

    Some models search in every request, and their fee is in it. How widely they search is not known beforehand, so it
    is the dearest.
    """
    request = Decimal(entry.get("input_cost_per_request") or 0)
    by_width: Mapping[str, Any] = entry.get("search_context_cost_per_query") or {}
    search = max(map(Decimal, by_width.values()), default=None)
    if entry.get("litellm_provider") == "perplexity" or _ALWAYS_SEARCHES.search(name):
        return max(request, search or Decimal(0)), Decimal(0)
    return request, search
