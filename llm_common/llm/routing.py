"""From the name of a model to where it is reached: provider, name on the wire, base URL and key, decided together.

The rules, first match wins; the table in tests/unit/llm/test_routing.py shows each of them.

1. A client with its own `base_url` sends every name there, as it is. A prefix that names the client's own provider is
   taken off once: for a server that calls its model `openai/gpt-oss-20b`, write `openai/openai/gpt-oss-20b`.
   Without `provider=`, such a client speaks OpenAI's protocol.
2. A client with `provider="openrouter"` (or with an `api_key` alone) reads names as OpenRouter does: `openai/gpt-4o` is
   OpenRouter's `openai/gpt-4o`. A bare name gets its vendor, a provider's name becomes the vendor's (`zai/` → `z-ai/`).
   A provider that OpenRouter does not list (`groq/`, `ollama/`) is that provider.
3. A name with a provider's prefix goes to that provider: `openrouter/...`, `openai/...`, `zai/...` or `z-ai/...`,
   `anthropic/...`, or any other that LiteLLM knows.
4. A bare name goes to the client's provider, or without one to the provider that the catalogue knows it under.
5. Another `vendor/model` is OpenRouter's.

Where the client names no provider, the model's own (OpenAI, Anthropic, z.ai) has neither key nor URL of its own, and
OpenRouter has a key, rules 3 and 4 go through OpenRouter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_common.exceptions import ConfigurationError, InvalidInputError, ModelNotFoundError
from llm_common.llm.catalogue.catalogue import VENDORS, Catalogue
from llm_common.llm.wire import Route, WireName
from llm_common.settings import PROVIDER_KEYS, PROVIDER_URLS, Settings

__all__ = ["DEFAULT_URLS", "resolve"]

DEFAULT_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "zai": "https://api.z.ai/api/paas/v4",
    "anthropic": "https://api.anthropic.com",
}
_ALIASES = {"z-ai": "zai"}
_DIRECT = frozenset({"openai", "openrouter", "zai"})
# Servers of one's own that speak OpenAI's protocol, under LiteLLM's names: direct once it is known where they are.
_OWN_SERVERS = frozenset({"custom_openai", "docker_model_runner", "hosted_vllm", "llamafile", "lm_studio", "vllm"})
# Providers of LiteLLM that its map has no models of.
_UNMAPPED = frozenset(
    {
        *_OWN_SERVERS, "aiohttp_openai", "aiml", "chutes", "clarifai", "cometapi", "datarobot", "edenai", "empower",
        "galadriel", "github", "helicone", "huggingface", "infinity", "litellm_proxy", "maritalk", "modelscope",
        "nano-gpt", "nvidia_nim", "ollama_chat", "oobabooga", "openai_like", "parasail", "petals", "poe", "predibase",
        "sagemaker_chat", "synthetic", "text-completion-openai", "triton", "vertex_ai_beta", "watsonx_text",
        "xinference",
    }
)  # fmt: skip
# The providers whose models are all known, so that a name nobody knows is a mistake.
_KNOWN_THROUGHOUT = frozenset({"openai", "anthropic", "zai"})
_DATE = re.compile(r"-20\d{6}$")
_VERSION = re.compile(r"-(\d)-(\d)(?=-|$)")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question, with all that the answer depends on."""

    model: str
    provider: str | None
    settings: Settings
    catalogue: Catalogue
    api_key: str | None = field(repr=False)
    base_url: str | None

    def key_for(self, provider: str) -> str | None:
        return self.api_key if self.api_key and provider == self.provider else self.settings.keys.get(provider)

    def url_for(self, provider: str) -> str | None:
        if self.base_url and provider == self.provider:
            return self.base_url
        return self.settings.urls.get(provider) or DEFAULT_URLS.get(provider)

    def has_own_url(self, provider: str) -> bool:
        return self.url_for(provider) != DEFAULT_URLS.get(provider)

    def is_reachable(self, provider: str) -> bool:
        return self.key_for(provider) is not None or self.has_own_url(provider)

    def is_provider(self, name: str) -> bool:
        return name in DEFAULT_URLS or name in _UNMAPPED or self.catalogue.is_provider(name)


def resolve(
    model: str,
    *,
    provider: str | None = None,
    wire: WireName | None = None,
    settings: Settings,
    catalogue: Catalogue,
    api_key: str | None = None,
    base_url: str | None = None,
) -> Route:
    """Where `model` is reached, by the rules above.

    `provider`, `api_key` and `base_url` are the client's own; key and URL are used for its provider only, other
    providers get theirs from `settings`. `wire` forces one; else OpenAI, OpenRouter, z.ai and own servers are direct,
    the rest goes through LiteLLM (which finds the keys of providers that `Settings` does not know by itself).

    Raises `ModelNotFoundError` with near matches for a name that nobody knows, `ConfigurationError` for a missing
    key or an unusable combination. May read the catalogue's maps from disk the first time.
    """
    asked = _Asked(
        model.strip(), _client_provider(provider, api_key, base_url), settings, catalogue, api_key, _url(base_url)
    )
    if not asked.model:
        raise InvalidInputError("the model's name is empty; give one, for example zai/glm-4.6")
    # A server of one's own may call its models by path, such as /models/llama.gguf.
    if not all(asked.model.split("/")) and not asked.has_own_url(asked.provider or "openai"):
        raise InvalidInputError(f"model {model!r} has nothing before, after or between its slashes; write zai/glm-4.6")
    if asked.provider is not None and not asked.is_provider(asked.provider):
        raise ConfigurationError(
            f"provider={provider!r} is not known; use openai, openrouter, zai, anthropic or another name of LiteLLM's. "
            "For a server of your own that speaks OpenAI's protocol: provider='openai' and base_url=."
        )
    owner, name = _placed(asked)
    name = _known_name(asked, owner, name)
    chosen = _wire(asked, owner, wire)
    return Route(
        asked=asked.model,
        provider=owner,
        name=name,
        wire=chosen,
        base_url=asked.url_for(owner),
        api_key=_key(asked, owner),
    )


def _client_provider(provider: str | None, api_key: str | None, base_url: str | None) -> str | None:
    if provider is not None:
        return _ALIASES.get(provider, provider)
    if base_url is not None:
        return "openai"
    # The public contract's default: whoever passes nothing but a key passes OpenRouter's.
    return "openrouter" if api_key else None


def _url(base_url: str | None) -> str | None:
    if base_url is None:
        return None
    if not base_url.startswith(("http://", "https://")):
        raise ConfigurationError(f"base_url {base_url!r} must begin with http:// or https://")
    return base_url.rstrip("/")


def _placed(asked: _Asked) -> tuple[str, str]:
    """The provider, and the model's name there."""
    prefix, slash, rest = asked.model.partition("/")
    prefix = _ALIASES.get(prefix, prefix)
    if not (slash and rest):
        prefix = ""
    if asked.base_url and asked.provider and asked.provider != "openrouter":
        return asked.provider, rest if prefix == asked.provider else asked.model
    if asked.provider == "openrouter" and not _is_elsewhere(asked, prefix):
        return "openrouter", _openrouter_name(asked, asked.model)
    if prefix and asked.is_provider(prefix):
        if prefix == "openrouter":
            return prefix, _openrouter_name(asked, asked.model)
        return _through_openrouter(asked, prefix, rest) or (prefix, rest)
    if asked.provider is not None:
        return asked.provider, asked.model
    return _natural(asked)


def _is_elsewhere(asked: _Asked, prefix: str) -> bool:
    """Whether a prefix names a provider that is not one of OpenRouter's vendors."""
    if not prefix or prefix == "openrouter" or prefix in VENDORS or asked.base_url:
        return False
    return asked.is_provider(prefix) and not asked.catalogue.is_vendor(prefix)


def _natural(asked: _Asked) -> tuple[str, str]:
    """Where a name belongs that says nothing itself, for a client that says nothing either."""
    home = None if "/" in asked.model else asked.catalogue.home_of(asked.model)
    if home is not None:
        return _through_openrouter(asked, home, asked.model) or (home, asked.model)
    if asked.has_own_url("openai") and not ("/" in asked.model and asked.key_for("openrouter")):
        return "openai", asked.model
    return "openrouter", _openrouter_name(asked, asked.model)


def _through_openrouter(asked: _Asked, home: str, name: str) -> tuple[str, str] | None:
    """OpenRouter instead of a provider that cannot be reached, if the client leaves the choice."""
    if asked.provider is not None or not asked.key_for("openrouter"):
        return None
    if home in PROVIDER_KEYS:
        return None if asked.is_reachable(home) else ("openrouter", _openrouter_name(asked, f"{home}/{name}"))
    # Only LiteLLM knows where the key of another provider would be. A prefix says it is there; a bare name does not.
    listed = f"{VENDORS.get(home, home)}/{name}"
    if "/" in asked.model or asked.catalogue.find("openrouter", listed) is None:
        return None
    return "openrouter", listed


def _openrouter_name(asked: _Asked, model: str) -> str:
    name = model.removeprefix("openrouter/")
    vendor, slash, own = name.partition("/")
    if not slash:
        return _bare_on_openrouter(asked, name, prefixed=name != model)
    vendor = VENDORS.get(vendor, vendor)
    if vendor == "anthropic":
        own = _anthropic_on_openrouter(asked.catalogue, own)
    return f"{vendor}/{own}"


def _bare_on_openrouter(asked: _Asked, name: str, *, prefixed: bool) -> str:
    home = asked.catalogue.home_of(name)
    if home in VENDORS:
        return _openrouter_name(asked, f"{home}/{name}")
    vendor = asked.catalogue.vendor_of(name)
    if vendor is not None:
        return f"{vendor}/{name}"
    if prefixed:
        return f"openrouter/{name}"  # OpenRouter's own, such as openrouter/auto
    raise _not_found(asked, "openrouter", name)


def _anthropic_on_openrouter(catalogue: Catalogue, name: str) -> str:
    """`claude-sonnet-4-5-20250929` is `claude-sonnet-4.5` there."""
    dotted = _VERSION.sub(r"-\1.\2", _DATE.sub("", name))
    for spelling in (name, dotted):
        if catalogue.find("openrouter", f"anthropic/{spelling}"):
            return spelling
    return dotted


def _known_name(asked: _Asked, provider: str, name: str) -> str:
    """The name as the provider spells it. Raises where all its names are known and this is none of them."""
    if provider not in _KNOWN_THROUGHOUT or asked.catalogue.find(provider, name):
        return name
    dashed = name.replace(".", "-")
    if provider == "anthropic" and asked.catalogue.find(provider, dashed):
        return dashed  # OpenRouter's spelling of Anthropic's version numbers
    if asked.has_own_url(provider):
        return name
    raise _not_found(asked, provider, name)


def _not_found(asked: _Asked, provider: str, name: str) -> ModelNotFoundError:
    near = asked.catalogue.near_matches(name, provider) or asked.catalogue.near_matches(name)
    home = None if "/" in name else asked.catalogue.home_of(name)
    if home not in (None, provider):
        near = tuple(dict.fromkeys((f"{home}/{name}", *near)))[:5]
    advice = f"Did you mean {', '.join(near)}? " if near else "Write it as provider/model. "
    return ModelNotFoundError(
        f"no model {asked.model!r} is known at {provider}. {advice}"
        "A model newer than the price maps becomes known with a price of its own in the client's price overrides.",
        near_matches=near,
        provider=provider,
        model=asked.model,
    )


def _wire(asked: _Asked, provider: str, forced: WireName | None) -> WireName:
    given = asked.base_url is not None and provider == asked.provider
    if forced == "direct" and provider not in _DIRECT and not given:
        raise ConfigurationError(
            f"wire='direct' speaks OpenAI's protocol, and none is known for {provider} ({asked.model!r}); "
            "leave wire= out, or give base_url= of an endpoint of its that speaks it"
        )
    if forced is not None:
        return forced
    return "direct" if provider in _DIRECT or (given and provider in _OWN_SERVERS) else "litellm"


def _key(asked: _Asked, provider: str) -> str | None:
    key = asked.key_for(provider)
    # A server of one's own may want none, and where LiteLLM finds the other providers' keys is its own affair.
    if key is not None or provider not in PROVIDER_KEYS or asked.has_own_url(provider):
        return key
    variables = " or ".join(PROVIDER_KEYS[provider])
    others = [other for other in PROVIDER_KEYS if asked.settings.keys.get(other)]
    have = f" Keys are set for: {', '.join(others)}." if others else ""
    through = "" if provider == "openrouter" else ", or OPENROUTER_API_KEY and name it openrouter/..."
    raise ConfigurationError(
        f"model {asked.model!r} is reached at {provider}, and there is no key for it: set {variables} in the "
        f"environment, pass api_key= with provider={provider!r}{through}.{have} "
        f"A server of your own needs no key: set {PROVIDER_URLS[provider][0]}, or pass base_url=."
    )
