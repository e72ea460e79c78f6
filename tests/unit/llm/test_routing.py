"""Names to routes. The table is the documentation of the rules: read it from top to bottom."""

import re
from dataclasses import dataclass, replace

import pytest

from llm_common.exceptions import ConfigurationError, InvalidInputError, ModelNotFoundError
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.routing import resolve
from llm_common.llm.wire import Route, WireName
from llm_common.settings import Settings

CATALOGUE = Catalogue()

OPENAI = "https://api.openai.com/v1"
OPENROUTER = "https://openrouter.ai/api/v1"
ZAI = "https://api.z.ai/api/paas/v4"
ANTHROPIC = "https://api.anthropic.com"
LOCAL = "http://localhost:11434/v1"

ALL = ("openai", "openrouter", "zai", "anthropic")


@dataclass(frozen=True)
class Row:
    """`model` asked of a client made with `provider`, where `keys` are set: what goes where."""

    model: str
    provider: str | None
    keys: tuple[str, ...]
    to: str
    wire: str
    name: str
    url: str | None
    base_url: str | None = None


TABLE = [
    # A bare name goes to its maker.
    Row("gpt-4o", None, ALL, "openai", "direct", "gpt-4o", OPENAI),
    Row("gpt-4o-mini", None, ALL, "openai", "direct", "gpt-4o-mini", OPENAI),
    Row("gpt-4o-2024-08-06", None, ALL, "openai", "direct", "gpt-4o-2024-08-06", OPENAI),
    Row("ft:gpt-4o-2024-08-06:acme::abc", None, ALL, "openai", "direct", "ft:gpt-4o-2024-08-06:acme::abc", OPENAI),
    Row("text-embedding-3-small", None, ALL, "openai", "direct", "text-embedding-3-small", OPENAI),
    Row("glm-4.6", None, ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("claude-haiku-5-5", None, ALL, "anthropic", "litellm", "claude-haiku-5-5", ANTHROPIC),
    Row("claude-sonnet-4.5", None, ALL, "anthropic", "litellm", "claude-sonnet-4-5", ANTHROPIC),
    Row("gemini-2.5-pro", None, (), "gemini", "litellm", "gemini-2.5-pro", None),
    # A prefix says where.
    Row("openai/gpt-4o", None, ALL, "openai", "direct", "gpt-4o", OPENAI),
    Row("zai/glm-4.6", None, ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("z-ai/glm-4.6", None, ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("anthropic/claude-haiku-5-5", None, ALL, "anthropic", "litellm", "claude-haiku-5-5", ANTHROPIC),
    Row("openrouter/openai/gpt-4o", None, ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("openrouter/z-ai/glm-4.6", None, ALL, "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("openrouter/zai/glm-4.6", None, ALL, "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("openrouter/gpt-4o", None, ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("openrouter/auto", None, ALL, "openrouter", "direct", "openrouter/auto", OPENROUTER),
    Row("gemini/gemini-2.5-pro", None, ALL, "gemini", "litellm", "gemini-2.5-pro", None),
    Row("groq/llama-3.3-70b-versatile", None, ALL, "groq", "litellm", "llama-3.3-70b-versatile", None),
    Row("ollama/llama3", None, ALL, "ollama", "litellm", "llama3", None),
    Row("hosted_vllm/my-model", None, ALL, "hosted_vllm", "litellm", "my-model", None),
    # Any other vendor is OpenRouter's.
    Row("meta-llama/llama-4-scout", None, ALL, "openrouter", "direct", "meta-llama/llama-4-scout", OPENROUTER),
    Row("google/gemini-2.5-pro", None, ALL, "openrouter", "direct", "google/gemini-2.5-pro", OPENROUTER),
    # With nothing but OpenRouter's key, the makers are reached through OpenRouter.
    Row("gpt-4o", None, ("openrouter",), "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("openai/gpt-4o", None, ("openrouter",), "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("glm-4.6", None, ("openrouter",), "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("zai/glm-4.6", None, ("openrouter",), "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("z-ai/glm-4.6", None, ("openrouter", "openai"), "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("claude-sonnet-4-5", None, ("openrouter",), "openrouter", "direct", "anthropic/claude-sonnet-4.5", OPENROUTER),
    Row("gemini-2.5-pro", None, ("openrouter",), "openrouter", "direct", "google/gemini-2.5-pro", OPENROUTER),
    Row("gemini/gemini-2.5-pro", None, ("openrouter",), "gemini", "litellm", "gemini-2.5-pro", None),
    Row("gpt-4o", None, ("openrouter", "openai"), "openai", "direct", "gpt-4o", OPENAI),
    # provider="openrouter" reads names as OpenRouter does, whatever other keys there are.
    Row("openai/gpt-4o", "openrouter", ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("openrouter/openai/gpt-4o", "openrouter", ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("gpt-4o", "openrouter", ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("gpt-4o-mini", "openrouter", ALL, "openrouter", "direct", "openai/gpt-4o-mini", OPENROUTER),
    Row("glm-4.6", "openrouter", ALL, "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("z-ai/glm-4.6", "openrouter", ALL, "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("zai/glm-4.6", "openrouter", ALL, "openrouter", "direct", "z-ai/glm-4.6", OPENROUTER),
    Row("claude-haiku-5-5", "openrouter", ALL, "openrouter", "direct", "anthropic/claude-haiku-5.5", OPENROUTER),
    Row(
        "anthropic/claude-sonnet-5.5",
        "openrouter",
        ALL,
        "openrouter",
        "direct",
        "anthropic/claude-sonnet-5.5",
        OPENROUTER,
    ),
    Row(
        "anthropic/claude-sonnet-5-5",
        "openrouter",
        ALL,
        "openrouter",
        "direct",
        "anthropic/claude-sonnet-5.5",
        OPENROUTER,
    ),
    Row("gemini/gemini-2.5-pro", "openrouter", ALL, "openrouter", "direct", "google/gemini-2.5-pro", OPENROUTER),
    Row("deepseek/deepseek-r1", "openrouter", ALL, "openrouter", "direct", "deepseek/deepseek-r1", OPENROUTER),
    Row("perplexity/sonar", "openrouter", ALL, "openrouter", "direct", "perplexity/sonar", OPENROUTER),
    Row("openai/gpt-4o:nitro", "openrouter", ALL, "openrouter", "direct", "openai/gpt-4o:nitro", OPENROUTER),
    Row("newcomer/model-1", "openrouter", ALL, "openrouter", "direct", "newcomer/model-1", OPENROUTER),
    Row("llama-4-scout", "openrouter", ALL, "openrouter", "direct", "meta-llama/llama-4-scout", OPENROUTER),
    Row("groq/llama-3.3-70b-versatile", "openrouter", ALL, "groq", "litellm", "llama-3.3-70b-versatile", None),
    # Another provider= takes bare names; a prefix still wins.
    Row("gpt-4o", "openai", ALL, "openai", "direct", "gpt-4o", OPENAI),
    Row("openai/gpt-4o", "openai", ALL, "openai", "direct", "gpt-4o", OPENAI),
    Row("openrouter/openai/gpt-4o", "openai", ALL, "openrouter", "direct", "openai/gpt-4o", OPENROUTER),
    Row("zai/glm-4.6", "openai", ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("glm-4.6", "zai", ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("glm-4.6", "z-ai", ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("z-ai/glm-4.6", "zai", ALL, "zai", "direct", "glm-4.6", ZAI),
    Row("openai/gpt-4o", "zai", ALL, "openai", "direct", "gpt-4o", OPENAI),
    Row("claude-haiku-5-5", "anthropic", ALL, "anthropic", "litellm", "claude-haiku-5-5", ANTHROPIC),
    Row(
        "anthropic/claude-sonnet-5.5",
        "anthropic",
        ALL,
        "anthropic",
        "litellm",
        "claude-sonnet-5-5",
        ANTHROPIC,
    ),
    Row("llama3", "ollama", (), "ollama", "litellm", "llama3", None),
    # A base_url of its own takes every name as it is, and needs no key.
    Row("llama3", None, (), "openai", "direct", "llama3", LOCAL, LOCAL),
    Row("llama3", "openai", (), "openai", "direct", "llama3", LOCAL, LOCAL),
    Row("meta-llama/Llama-3-8B", "openai", (), "openai", "direct", "meta-llama/Llama-3-8B", LOCAL, LOCAL),
    Row("zai/glm-4.6", "openai", ALL, "openai", "direct", "zai/glm-4.6", LOCAL, LOCAL),
    Row("openai/gpt-4o", "openai", (), "openai", "direct", "gpt-4o", LOCAL, LOCAL),
    Row("openai/openai/gpt-oss-20b", "openai", (), "openai", "direct", "openai/gpt-oss-20b", LOCAL, LOCAL),
    Row("my-model", "hosted_vllm", (), "hosted_vllm", "direct", "my-model", LOCAL, LOCAL),
    Row("z-ai/glm-4.6", "zai", (), "zai", "direct", "glm-4.6", LOCAL, LOCAL),
    Row("zai/glm-4.6", "openrouter", (), "openrouter", "direct", "z-ai/glm-4.6", LOCAL, LOCAL),
    Row("claude-haiku-5-5", "anthropic", (), "anthropic", "litellm", "claude-haiku-5-5", LOCAL, LOCAL),
]


def route(
    model: str,
    *,
    provider: str | None = None,
    keys: tuple[str, ...] = ALL,
    urls: dict[str, str] | None = None,
    wire: WireName | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    catalogue: Catalogue = CATALOGUE,
) -> Route:
    settings = Settings(keys={name: f"key-of-{name}" for name in keys}, urls=urls or {})
    return resolve(
        model,
        provider=provider,
        wire=wire,
        settings=settings,
        catalogue=catalogue,
        api_key=api_key,
        base_url=base_url,
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.model} at {row.provider} {row.base_url or ''}")
def test_table(row: Row) -> None:
    """Name, provider= and the keys at hand decide provider, wire, name on the wire and base URL; the key goes along."""
    found = route(row.model, provider=row.provider, keys=row.keys, base_url=row.base_url)
    assert (found.provider, found.wire, found.name, found.base_url) == (row.to, row.wire, row.name, row.url)
    assert found.asked == row.model
    assert found.api_key == (f"key-of-{row.to}" if row.to in row.keys else None)


@pytest.mark.parametrize("model", ["gpt-4o", "zai/glm-4.6", "anthropic/claude-haiku-5-5"])
def test_a_key_alone_is_openrouters(model: str) -> None:
    """`LLMClient(api_key=...)` means what it meant when openrouter was the written default."""
    found = route(model, api_key="given", keys=())
    assert (found.provider, found.api_key, found.base_url) == ("openrouter", "given", OPENROUTER)


def test_a_given_key_is_for_its_provider_only() -> None:
    """A client's key is never sent to another provider: that one's own key is used."""
    assert route("gpt-4o", provider="openai", api_key="given").api_key == "given"
    assert route("zai/glm-4.6", provider="openai", api_key="given").api_key == "key-of-zai"
    assert route("groq/llama-3.3-70b-versatile", provider="openrouter", api_key="given").api_key is None


def test_a_given_url_goes_with_the_given_key() -> None:
    """A server of one's own gets the key that was given for it."""
    found = route("llama3", provider="openai", api_key="given", base_url=f"{LOCAL}/")
    assert (found.api_key, found.base_url) == ("given", LOCAL)


def test_urls_of_the_environment() -> None:
    """`ZAI_API_BASE` and its sisters move a provider, and what is moved takes names that no map knows."""
    coding = "https://api.z.ai/api/coding/paas/v4"
    found = route("glm-99-private", urls={"zai": coding})
    assert (found.provider, found.name, found.base_url, found.api_key) == (
        "zai",
        "glm-99-private",
        coding,
        "key-of-zai",
    )


@pytest.mark.parametrize("model", ["llama3", "meta-llama/Llama-3-8B", "gpt-4o"])
def test_openai_moved_to_a_server_of_ones_own(model: str) -> None:
    """With OPENAI_BASE_URL set elsewhere and no other key, names that nobody else claims go there, without a key."""
    found = route(model, urls={"openai": LOCAL}, keys=())
    assert (found.provider, found.name, found.base_url, found.api_key) == ("openai", model, LOCAL, None)


def test_a_provider_with_a_url_but_no_key_is_reachable() -> None:
    """OpenRouter does not take over what has a server of its own."""
    assert route("glm-4.6", urls={"zai": LOCAL}, keys=("openrouter",)).provider == "zai"


def test_the_url_that_is_the_default_anyway_changes_nothing() -> None:
    """OPENAI_BASE_URL set to OpenAI's own address is no server of one's own: unknown names stay mistakes."""
    with pytest.raises(ModelNotFoundError):
        route("openai/gpt-99-turbo", urls={"openai": OPENAI})


@pytest.mark.parametrize(
    ("model", "provider"), [("zai/glm-4.6", None), ("gpt-4o", None), ("z-ai/glm-4.6", "openrouter")]
)
def test_a_forced_wire_changes_nothing_but_the_wire(model: str, provider: str | None) -> None:
    """`wire="litellm"` goes to the same place, under the same name, with the same key."""
    found, plain = route(model, provider=provider, wire="litellm"), route(model, provider=provider)
    assert found.wire == "litellm"
    assert replace(found, wire=plain.wire) == plain


def test_forced_direct_wire() -> None:
    """`wire="direct"` needs an endpoint that speaks OpenAI's protocol."""
    assert route("gpt-4o", wire="direct").wire == "direct"
    own = route("claude-haiku-5-5", provider="anthropic", wire="direct", base_url=LOCAL)
    assert (own.wire, own.name) == ("direct", "claude-haiku-5-5")
    with pytest.raises(ConfigurationError, match=r"wire='direct'.*anthropic"):
        route("claude-haiku-5-5", wire="direct")


@pytest.mark.parametrize(
    ("model", "provider", "near"),
    [
        ("gpt-4o-minni", None, "gpt-4o-mini"),
        ("openai/gpt-4o-minni", None, "gpt-4o-mini"),
        ("zai/glm-4.66", None, "zai/glm-4.6"),
        ("claude-haiku-55", None, "claude-haiku-5-5"),
        ("gpt-4o", "zai", "openai/gpt-4o"),
        ("claude-haiku-5-5", "openai", "anthropic/claude-haiku-5-5"),
        ("lama-4-scout", "openrouter", "openrouter/meta-llama/llama-4-scout"),
    ],
)
def test_unknown_names_come_with_near_matches(model: str, provider: str | None, near: str) -> None:
    """The error names what was asked, where, and first of all the name that was probably meant."""
    with pytest.raises(ModelNotFoundError, match=re.escape(repr(model))) as raised:
        route(model, provider=provider)
    assert raised.value.near_matches[0] == near
    assert near in str(raised.value)
    assert len(raised.value.near_matches) <= 5


def test_a_name_that_resembles_nothing() -> None:
    """Without vendor, prefix or resemblance there is nothing to suggest but how to write one."""
    with pytest.raises(ModelNotFoundError, match="provider/model") as raised:
        route("zxqwvj")
    assert raised.value.near_matches == ()


def test_an_override_makes_a_new_model_known() -> None:
    """A model newer than the maps is reached once the host has said what it costs."""
    catalogue = Catalogue({"openai/gpt-99-turbo": Price(Rates.per_million(input="1", output="2"))})
    assert route("gpt-99-turbo", catalogue=catalogue).provider == "openai"
    assert route("openai/gpt-99-turbo", catalogue=catalogue).name == "gpt-99-turbo"


@pytest.mark.parametrize(
    ("model", "provider", "keys", "named"),
    [
        ("gpt-4o", None, (), ["openai", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "OPENAI_BASE_URL"]),
        ("zai/glm-4.6", None, ("openai",), ["zai", "ZAI_API_KEY or Z_AI_API_KEY", "Keys are set for: openai"]),
        ("claude-haiku-5-5", None, (), ["anthropic", "ANTHROPIC_API_KEY"]),
        ("gpt-4o", "openrouter", ("openai",), ["openrouter", "OPENROUTER_API_KEY", "Keys are set for: openai"]),
        ("gpt-4o", "openai", ("openrouter",), ["openai", "OPENAI_API_KEY", "Keys are set for: openrouter"]),
        ("meta-llama/llama-4-scout", None, (), ["openrouter", "OPENROUTER_API_KEY"]),
        # A client made for one provider is not rerouted behind its back.
        ("zai/glm-4.6", "openai", ("openai", "openrouter"), ["zai", "ZAI_API_KEY", "openrouter/..."]),
    ],
)
def test_a_missing_key_says_what_to_set(
    model: str, provider: str | None, keys: tuple[str, ...], named: list[str]
) -> None:
    """The error names the provider, the exact variables, and the keys that are there; never a key itself."""
    with pytest.raises(ConfigurationError) as raised:
        route(model, provider=provider, keys=keys)
    assert all(part in str(raised.value) for part in [repr(model), *named])
    assert "key-of" not in str(raised.value)


def test_keys_do_not_show() -> None:
    """A route can be logged: its key is not in its repr."""
    assert "key-of" not in repr(route("gpt-4o"))


@pytest.mark.parametrize("model", ["", "  "])
def test_empty_names_are_refused(model: str) -> None:
    """An empty name is the caller's mistake, not an unknown model."""
    with pytest.raises(InvalidInputError, match="empty"):
        route(model)


def test_unknown_providers_are_refused() -> None:
    """A mistyped provider= is found before anything is sent."""
    with pytest.raises(ConfigurationError, match="provider='opnai'"):
        route("gpt-4o", provider="opnai")


def test_a_url_without_scheme_is_refused() -> None:
    """The message shows the URL and what it lacks."""
    with pytest.raises(ConfigurationError, match=r"localhost:11434.*http://"):
        route("llama3", base_url="localhost:11434")


@pytest.mark.parametrize("model", ["/", "openai/", "/gpt-4o", "a//b", "openrouter/"])
def test_malformed_names_are_refused(model: str) -> None:
    """A name with an empty part is the caller's mistake, unless it is a path on a server of one's own."""
    with pytest.raises(InvalidInputError, match="slashes"):
        route(model)
    assert route("/models/llama.gguf", base_url=LOCAL).name == "/models/llama.gguf"
