"""What is known about models, from the maps of the installed packages."""

import json
import subprocess
import sys
import threading
from datetime import date, time
from decimal import Decimal

import pytest

from llm_common.exceptions import InvalidInputError
from llm_common.llm.catalogue.catalogue import Catalogue, ModelInfo
from llm_common.llm.catalogue.genai_map import in_force
from llm_common.llm.catalogue.litellm_map import LiteLLMMap, litellm_map, model_info, provider_of
from llm_common.llm.pricing import Price, Rates, Tier

MILLION = 1_000_000


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def known(info: ModelInfo | None) -> ModelInfo:
    assert info is not None
    return info


def price(info: ModelInfo | None) -> Price:
    found = known(info).price
    assert found is not None
    return found


def per_million(info: ModelInfo | None) -> tuple[Decimal, Decimal, Decimal]:
    found = price(info).rates
    return found.input * MILLION, found.billed.cache_read * MILLION, found.output * MILLION


@pytest.mark.parametrize(
    ("provider", "name", "rates"),
    [
        ("zai", "glm-5.3", ("1.40", "0.26", "4.40")),
        ("zai", "glm-5.3-flash", ("0.15", "0.03", "0.50")),
        ("zai", "glm-4.7-flash", ("0", "0", "0")),
        ("openai", "gpt-6-luna", ("0.10", "0.01", "0.50")),
        ("openai", "gpt-6.1-terra", ("1", "0.05", "5")),
        ("anthropic", "claude-haiku-5-5", ("0.10", "0.01", "0.50")),
        ("anthropic", "claude-sonnet-5-5", ("2", "0.10", "10")),
        ("openrouter", "anthropic/claude-sonnet-5.5", ("2", "0.10", "10")),
        ("openrouter", "z-ai/glm-5.3", ("1.40", "0.26", "4.40")),
    ],
)
def test_prices_are_the_published_ones(
    catalogue: Catalogue, provider: str, name: str, rates: tuple[str, str, str]
) -> None:
    """Input, cached and output per million tokens, exactly, for models of each provider."""
    assert per_million(catalogue.find(provider, name)) == tuple(map(Decimal, rates))


def test_sizes_and_abilities(catalogue: Catalogue) -> None:
    """Windows, output limits and abilities come with the price."""
    info = known(catalogue.find("openai", "gpt-4o"))
    assert (info.max_input_tokens, info.max_output_tokens) == (128_000, 16_384)
    assert (info.supports_json_schema, info.supports_tools, info.reasons) == (True, True, False)
    assert known(catalogue.find("zai", "glm-5.3")).reasons is True
    assert known(catalogue.find("zai", "glm-5.3")).supports_json_schema is False


def test_source_says_which_map(catalogue: Catalogue) -> None:
    """LiteLLM's map comes first, genai-prices fills its gaps."""
    assert known(catalogue.find("openai", "gpt-4o")).source == "litellm"
    assert known(catalogue.find("openai", "gpt-6.1-terra")).source == "genai-prices"


def test_unknown_is_none_and_not_free(catalogue: Catalogue) -> None:
    """A name that nobody knows has no entry, and a known name without a price has no price."""
    assert catalogue.find("openai", "gpt-99-turbo") is None
    assert catalogue.find("openrouter", "nobody/nothing") is None
    assert known(catalogue.find("github_copilot", "gpt-4o-mini")).price is None


def test_a_model_belongs_to_its_provider(catalogue: Catalogue) -> None:
    """One provider's model is not found at another, though the map has its name."""
    assert catalogue.find("zai", "gpt-4o") is None
    assert catalogue.find("openai", "claude-haiku-5-5") is None


def test_dated_names(catalogue: Catalogue) -> None:
    """A dated name is itself where it is listed, else its undated model; something else at the end is another model."""
    listed, alias = catalogue.find("openai", "gpt-4o-2024-05-13"), catalogue.find("openai", "gpt-4o")
    assert per_million(listed) == (5, 5, 15)
    assert per_million(alias) == (Decimal("2.5"), Decimal("1.25"), 10)
    assert per_million(catalogue.find("openai", "gpt-4o-2099-01-31")) == per_million(alias)
    assert price(catalogue.find("anthropic", "claude-haiku-5-5-20991231")) == price(
        catalogue.find("anthropic", "claude-haiku-5-5")
    )
    assert known(catalogue.find("openai", "gpt-4o-2099-01-31")).name == "gpt-4o-2099-01-31"
    assert catalogue.find("openai", "gpt-4o-2099") is None


def test_fine_tuned_names(catalogue: Catalogue) -> None:
    """A fine-tuned model costs what the map says of fine-tuned ones, which is more than the base model."""
    tuned = catalogue.find("openai", "ft:gpt-4o-2024-08-06:acme::abc123")
    assert per_million(tuned) == (Decimal("3.75"), Decimal("1.875"), 15)


def test_openrouter_variants(catalogue: Catalogue) -> None:
    """`:free` is free only where OpenRouter lists it so; a variant at another price has none; `:floor` is no dearer."""
    assert per_million(catalogue.find("openrouter", "openai/gpt-oss-20b:free")) == (0, 0, 0)
    for variant in ("openai/gpt-4o:free", "openai/gpt-4o:nitro", "openai/gpt-4o:online"):
        info = known(catalogue.find("openrouter", variant))
        assert info.price is None
        assert (info.name, info.max_input_tokens) == (variant, 128_000)
    assert price(catalogue.find("openrouter", "openai/gpt-4o:floor")) == price(
        catalogue.find("openrouter", "openai/gpt-4o")
    )
    assert catalogue.find("openrouter", "nobody/nothing:free") is None


def test_openrouter_models_have_their_makers_abilities(catalogue: Catalogue) -> None:
    """OpenRouter's list knows price and window; what a model can do, its maker's entry says."""
    info = known(catalogue.find("openrouter", "anthropic/claude-sonnet-4.5"))
    assert (info.provider, info.source) == ("openrouter", "genai-prices")
    assert (info.supports_json_schema, info.max_output_tokens) == (True, 64_000)


def test_openrouter_prices_an_hour_in_the_cache(catalogue: Catalogue) -> None:
    """The write for an hour costs twice the input, in each tier, although OpenRouter's list leaves it out."""
    found = price(catalogue.find("openrouter", "anthropic/claude-sonnet-4.5"))
    assert [r.billed.cache_write_1h / r.input for r in (found.rates, found.tiers[0].rates)] == [2, 2]


def test_long_context_tiers(catalogue: Catalogue) -> None:
    """Tiers carry every rate of theirs, and rates of other service tiers do not leak in."""
    (tier,) = price(catalogue.find("openai", "gpt-6-luna")).tiers
    assert tier == Tier(272_000, Rates.per_million(input="0.2", output="0.75", cache_read="0.02", cache_write="0.25"))


def test_rates_of_other_service_tiers_do_not_count() -> None:
    """What batches, priority or flex cost is not what an ordinary long request costs."""
    entry = {
        "mode": "chat",
        "input_cost_per_token": 2,
        "output_cost_per_token": 2,
        "input_cost_per_token_above_200k_tokens_batches": 1,
        "output_cost_per_token_above_272k_tokens_decisions": 0,
        "input_cost_per_token_flex": 1,
    }
    assert price(model_info("p", "m", entry)) == Price(Rates(input=Decimal(2), output=Decimal(2)))


def test_a_price_that_begins_later_is_not_in_force() -> None:
    """A list with dates gives the price of its day, an hourly one the dearest of its hours."""
    from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint, TimeOfDateConstraint

    def at(constraint: StartDateConstraint | TimeOfDateConstraint | None, dollars: int) -> ConditionalPrice:
        return ConditionalPrice(constraint, prices=ModelPrice(output_mtok=Decimal(dollars)))

    dated = [at(None, 1), at(StartDateConstraint(date(2026, 5, 1)), 2), at(StartDateConstraint(date(2026, 9, 1)), 3)]
    days = (date(2026, 4, 30), date(2026, 5, 1), date(2026, 8, 31), date(2026, 9, 1))
    assert [in_force(dated, day).output_mtok for day in days] == [1, 2, 2, 3]
    hourly = [at(None, 5), at(TimeOfDateConstraint(time(1), time(4)), 9), at(TimeOfDateConstraint(time(6), time(8)), 7)]
    assert in_force(hourly, date(2026, 5, 1)).output_mtok == 9


def test_a_known_model_without_a_price_gets_the_second_maps(catalogue: Catalogue) -> None:
    """LiteLLM's map may know a model and not its price: genai-prices then says it, and the source says so."""
    info = known(catalogue.find("fireworks_ai", "accounts/fireworks/models/minimax-m2p7"))
    assert price(info).rates.input > 0
    assert (info.source, info.supports_tools) == ("genai-prices", True)


def test_xai_bills_from_the_threshold_on() -> None:
    """xAI's dearer tier begins with the threshold, the others' just beyond it."""
    entry = {
        "mode": "chat",
        "litellm_provider": "xai",
        "input_cost_per_token": Decimal("0.000003"),
        "output_cost_per_token": Decimal("0.000015"),
        "input_cost_per_token_above_128k_tokens": Decimal("0.000006"),
    }
    assert price(model_info("xai", "grok", entry)).tiers[0].above == 127_999
    assert price(model_info("openai", "x", {**entry, "litellm_provider": "openai"})).tiers[0].above == 128_000


def test_a_tier_keeps_what_it_does_not_state() -> None:
    """A tier that states only the input keeps the output of the one below."""
    entry = {
        "mode": "chat",
        "input_cost_per_token": 1,
        "output_cost_per_token": 2,
        "cache_read_input_token_cost": Decimal("0.5"),
        "input_cost_per_token_above_200k_tokens": 3,
        "output_cost_per_token_above_400k_tokens": 7,
    }
    first, second = price(model_info("p", "m", entry)).tiers
    assert (first.above, first.rates.input, first.rates.output) == (200_000, 3, 2)
    assert (second.above, second.rates.input, second.rates.output) == (400_000, 3, 7)
    assert second.rates.cache_read == Decimal("0.5")


@pytest.mark.parametrize("missing", ["input_cost_per_token", "output_cost_per_token"])
def test_half_a_price_is_none(missing: str) -> None:
    """With only one side known a call would be billed half: that is an unknown price."""
    entry = {"mode": "chat", "input_cost_per_token": 1, "output_cost_per_token": 1}
    del entry[missing]
    assert model_info("p", "m", entry).price is None


def test_every_entry_of_the_map_can_be_read() -> None:
    """No entry of the installed map trips the reader, and none has a tier cheaper than what is below it."""
    for name, entry in litellm_map().entries.items():
        found = model_info(provider_of(entry), name, entry).price
        if found is None:
            continue
        for (_, rates), (_, dearest) in zip(found.bill.tiers, found.bill.dearest, strict=True):
            assert (max(rates[:7]), max(rates[7:])) == dearest, name


def test_modes_that_are_not_text_are_left_out() -> None:
    """A picture's price per token is not a chat's."""
    assert LiteLLMMap({"m": {"mode": "image_generation", "litellm_provider": "p"}}).find("p", "m") is None
    assert LiteLLMMap({"m": {"mode": "chat", "litellm_provider": "p"}}).find("p", "m") is not None


OWN = Price(Rates.per_million(input="9", output="9"))


@pytest.mark.parametrize(
    ("key", "provider", "name"),
    [
        ("zai/glm-5.3", "zai", "glm-5.3"),
        ("z-ai/glm-5.3", "zai", "glm-5.3"),
        ("glm-5.3", "zai", "glm-5.3"),
        ("openrouter/z-ai/glm-5.3", "openrouter", "z-ai/glm-5.3"),
        ("z-ai/glm-5.3", "openrouter", "z-ai/glm-5.3"),
        ("my-llama", "openai", "my-llama"),
    ],
)
def test_overrides_win_under_each_spelling(key: str, provider: str, name: str) -> None:
    """A host's price replaces the map's, under whichever name the host uses."""
    info = known(Catalogue({key: OWN}).find(provider, name))
    assert (info.price, info.source) == (OWN, "override")


def test_an_override_of_the_price_keeps_the_rest() -> None:
    """Sizes and abilities stay the map's; with a `ModelInfo` everything is the host's."""
    kept = known(Catalogue({"openai/gpt-4o": OWN}).find("openai", "gpt-4o"))
    assert (kept.max_input_tokens, kept.supports_tools) == (128_000, True)
    own = ModelInfo(provider="openai", name="gpt-4o", max_input_tokens=5, price=OWN)
    assert Catalogue({"openai/gpt-4o": own}).find("openai", "gpt-4o") == own


def test_an_override_of_one_provider_is_not_for_another() -> None:
    """A price with a provider's name binds there only."""
    assert known(Catalogue({"zai/glm-5.3": OWN}).find("openrouter", "z-ai/glm-5.3")).source == "genai-prices"


def test_an_empty_override_name_is_refused() -> None:
    """It could never be found again."""
    with pytest.raises(InvalidInputError, match="empty name"):
        Catalogue({" ": OWN})


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("gpt-4o", "openai"),
        ("gpt-99", "openai"),
        ("o3-mini", "openai"),
        ("ft:gpt-4o-2024-08-06:acme::abc123", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-haiku-5-5", "anthropic"),
        ("glm-4.6", "zai"),
        ("gemini-2.5-pro", "gemini"),
        ("deepseek-chat", "deepseek"),
        ("llama3", None),
        ("zxqw", None),
    ],
)
def test_home_of_bare_names(catalogue: Catalogue, name: str, home: str | None) -> None:
    """A bare name belongs to its maker, not to one of the many who resell it."""
    assert catalogue.home_of(name) == home


def test_an_override_gives_a_home() -> None:
    """A model that no map knows is reached by its bare name once the host has priced it with its provider."""
    assert Catalogue({"z-ai/brand-new": OWN}).home_of("brand-new") == "zai"
    assert Catalogue({"brand-new": OWN}).home_of("brand-new") is None


@pytest.mark.parametrize(
    ("mistyped", "provider", "meant"),
    [
        ("gpt-4o-minni", None, "gpt-4o-mini"),
        ("claud-sonet-5-5", None, "claude-sonnet-5-5"),
        ("z-ai/glm-46", None, "zai/glm-4.6"),
        ("z-ai/glm-5.33", "openrouter", "openrouter/z-ai/glm-5.3"),
    ],
)
def test_near_matches(catalogue: Catalogue, mistyped: str, provider: str | None, meant: str) -> None:
    """The name that was meant comes first, written as it is used."""
    near = catalogue.near_matches(mistyped, provider)
    assert near[0] == meant
    assert len(near) <= 5


def test_near_matches_of_nothing(catalogue: Catalogue) -> None:
    """What resembles nothing gets no suggestion rather than a silly one."""
    assert catalogue.near_matches("zxqwvj") == ()


def test_threads_read_the_map_once() -> None:
    """Threads that ask a fresh process at once share one reading, and get equal answers."""
    script = """
import json, threading
from llm_common.llm.catalogue import catalogue, litellm_map
reads, real = [], litellm_map.json.loads
def counting(*args, **kwargs):
    reads.append(1)
    return real(*args, **kwargs)
litellm_map.json.loads = counting
found, start = [], threading.Barrier(8)
def ask():
    start.wait()
    found.append(catalogue.Catalogue().find("openai", "gpt-4o"))
threads = [threading.Thread(target=ask) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps([len(reads), len(set(found)), None in found]))
"""
    assert json.loads(_python(script)) == [1, 1, False]


def test_maps_are_read_without_an_sdk_or_the_network() -> None:
    """Looking models up imports no SDK and opens no connection."""
    script = """
import sys, json
def no_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(event)
sys.addaudithook(no_network)
from llm_common.llm.catalogue.catalogue import Catalogue
before = "genai_prices" in sys.modules
c = Catalogue(); c.load(); c.find("openrouter", "z-ai/glm-5.3"); c.find("openai", "gpt-4o")
print(json.dumps([before, [m for m in ("litellm", "openai", "instructor", "aiohttp", "supabase") if m in sys.modules]]))
"""
    assert json.loads(_python(script)) == [False, []]


def _python(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def test_answers_are_remembered(catalogue: Catalogue) -> None:
    """The same question gets the same object, from any thread: one lookup on the hot path."""
    first = catalogue.find("zai", "glm-5.3")
    others: list[ModelInfo | None] = []
    thread = threading.Thread(target=lambda: others.append(catalogue.find("zai", "glm-5.3")))
    thread.start()
    thread.join()
    assert others == [first]
    assert others[0] is first
