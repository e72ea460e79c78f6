"""What calls cost. The golden invoices are worked out by hand from the published prices, to the last digit."""

from dataclasses import fields, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidInputError
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm.pricing import Price, Rates, Tier, bound_nano, cost_nano
from llm_common.models import Usage

CATALOGUE = Catalogue()

# (provider, model, usage, nano-dollars). $1 per million tokens is 1,000 nano-dollars per token.
INVOICES = {
    # gpt-4o: 2.50 in, 1.25 cached, 10.00 out.
    # 1,000 x 2,500 + 500 x 10,000 = 2,500,000 + 5,000,000
    "openai fresh": ("openai", "gpt-4o", Usage(input_tokens=1_000, output_tokens=500), 7_500_000),
    # usage: prompt_tokens 2,006, cached_tokens 1,920, completion_tokens 300. Fresh are 2,006 - 1,920 = 86.
    # 86 x 2,500 + 1,920 x 1,250 + 300 x 10,000 = 215,000 + 2,400,000 + 3,000,000
    "openai cached": (
        "openai",
        "gpt-4o",
        Usage(input_tokens=86, cache_read_tokens=1_920, output_tokens=300),
        5_615_000,
    ),
    # gpt-4o-mini: 0.15 in, 0.075 cached, 0.60 out.
    # 1 x 150 + 1 x 75 + 1 x 600
    "openai one of each": (
        "openai",
        "gpt-4o-mini",
        Usage(input_tokens=1, cache_read_tokens=1, output_tokens=1),
        825,
    ),
    # o3-mini: 1.10 in, 0.55 cached, 4.40 out; reasoning is within the output and costs the same.
    # 75 x 1,100 + 1,186 x 4,400 (1,024 of them reasoning) = 82,500 + 5,218,400
    "openai reasoning": (
        "openai",
        "o3-mini",
        Usage(input_tokens=75, output_tokens=1_186, reasoning_tokens=1_024),
        5_300_900,
    ),
    # gpt-6-luna: 0.10 in, 0.01 cached, 0.125 written, 0.50 out.
    # 500 x 100 + 4,096 x 10 + 1,024 x 125 + 200 x 500 = 50,000 + 40,960 + 128,000 + 100,000
    "openai cached, written and reasoning": (
        "openai",
        "gpt-6-luna",
        Usage(
            input_tokens=500,
            cache_read_tokens=4_096,
            cache_write_tokens=1_024,
            output_tokens=200,
            reasoning_tokens=150,
        ),
        318_960,
    ),
    # gpt-6-luna, exactly at the threshold of 272,000: still 0.10 in, 0.50 out.
    # 272,000 x 100 + 1,000 x 500 = 27,200,000 + 500,000
    "openai at the long-context threshold": (
        "openai",
        "gpt-6-luna",
        Usage(input_tokens=272_000, output_tokens=1_000),
        27_700_000,
    ),
    # gpt-6-luna beyond 272,000: 0.20 in, 0.02 cached, 0.75 out for the whole request. Fresh tokens alone are few:
    # the length that counts is that of the whole prompt, 2,001 + 270,000 = 272,001.
    # 2,001 x 200 + 270,000 x 20 + 1,000 x 750 = 400,200 + 5,400,000 + 750,000
    "openai long context, mostly cached": (
        "openai",
        "gpt-6-luna",
        Usage(input_tokens=2_001, cache_read_tokens=270_000, output_tokens=1_000),
        6_550_200,
    ),
    # claude-sonnet-5-5: 2.00 in, 0.10 cache read, 2.50 write for 5 minutes, 4.00 for an hour, 10.00 out.
    # usage: input_tokens 21, cache_creation_input_tokens 0, cache_read_input_tokens 18,000, output_tokens 400
    # 21 x 2,000 + 18,000 x 100 + 400 x 10,000 = 42,000 + 1,800,000 + 4,000,000
    "anthropic cache read": (
        "anthropic",
        "claude-sonnet-5-5",
        Usage(input_tokens=21, cache_read_tokens=18_000, output_tokens=400),
        5_842_000,
    ),
    # The same, the first time: 18,000 written for 5 minutes.
    # 21 x 2,000 + 18,000 x 2,500 + 400 x 10,000 = 42,000 + 45,000,000 + 4,000,000
    "anthropic cache write, 5 minutes": (
        "anthropic",
        "claude-sonnet-5-5",
        Usage(input_tokens=21, cache_write_tokens=18_000, output_tokens=400),
        49_042_000,
    ),
    # cache_creation: {ephemeral_5m_input_tokens: 3,000, ephemeral_1h_input_tokens: 15,000}
    # 21 x 2,000 + 3,000 x 2,500 + 15,000 x 4,000 + 400 x 10,000 = 42,000 + 7,500,000 + 60,000,000 + 4,000,000
    "anthropic cache write, both lifetimes": (
        "anthropic",
        "claude-sonnet-5-5",
        Usage(input_tokens=21, cache_write_tokens=18_000, cache_write_1h_tokens=15_000, output_tokens=400),
        71_542_000,
    ),
    # claude-haiku-5-5 beyond 100,000: 0.50 in, 0.05 read, 0.625 write, 1.00 write for an hour, 2.50 out.
    # 1,000 x 500 + 100,000 x 50 + 2,000 x 625 + 3,000 x 1,000 + 800 x 2,500
    # = 500,000 + 5,000,000 + 1,250,000 + 3,000,000 + 2,000,000
    "anthropic long context, every bucket": (
        "anthropic",
        "claude-haiku-5-5",
        Usage(
            input_tokens=1_000,
            cache_read_tokens=100_000,
            cache_write_tokens=5_000,
            cache_write_1h_tokens=3_000,
            output_tokens=800,
        ),
        11_750_000,
    ),
    # zai/glm-5.3: 1.40 in, 0.26 cached, 4.40 out.
    # 1,200 x 1,400 + 10,240 x 260 + 2,345 x 4,400 = 1,680,000 + 2,662,400 + 10,318,000
    "z.ai cached and reasoning": (
        "zai",
        "glm-5.3",
        Usage(input_tokens=1_200, cache_read_tokens=10_240, output_tokens=2_345, reasoning_tokens=2_000),
        14_660_400,
    ),
    # zai/glm-5.3-flash: 0.15 in, 0.03 cached, 0.50 out.
    # 7 x 150 + 64 x 30 + 1 x 500 = 1,050 + 1,920 + 500
    "z.ai flash": (
        "zai",
        "glm-5.3-flash",
        Usage(input_tokens=7, cache_read_tokens=64, output_tokens=1),
        3_470,
    ),
    # zai/glm-4.7-flash is free: a known price of zero.
    "z.ai free": ("zai", "glm-4.7-flash", Usage(input_tokens=90_000, output_tokens=9_000), 0),
    # openrouter/anthropic/claude-sonnet-4.5 beyond 200,000: 6.00 in, 22.50 out.
    # 200,001 x 6,000 + 10 x 22,500 = 1,200,006,000 + 225,000
    "openrouter long context": (
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        Usage(input_tokens=200_001, output_tokens=10),
        1_200_231_000,
    ),
    # dashscope/qwen-plus-2025-07-28 up to 256,000: 0.40 in, 1.20 out, but 4.00 for reasoning.
    # 1,000 x 400 + 100 x 1,200 + 900 x 4,000 = 400,000 + 120,000 + 3,600,000
    "reasoning with a rate of its own": (
        "dashscope",
        "qwen-plus-2025-07-28",
        Usage(input_tokens=1_000, output_tokens=1_000, reasoning_tokens=900),
        4_120_000,
    ),
    # gpt-audio: 2.50 and 10.00 for text, 32.00 and 64.00 for sound.
    # 100 x 2,500 + 900 x 32,000 + 20 x 10,000 + 80 x 64,000 = 250,000 + 28,800,000 + 200,000 + 5,120,000
    "sound": (
        "openai",
        "gpt-audio",
        Usage(input_tokens=1_000, input_audio_tokens=900, output_tokens=100, output_audio_tokens=80),
        34_370_000,
    ),
    # gemini-2.5-flash: 0.30 in, 1.00 for sound, but pictures and video as text; 2.50 out.
    # 10 x 300 + 500 x 1,000 + 490 x 300 + 10 x 2,500 = 3,000 + 500,000 + 147,000 + 25,000
    "pictures are not sound": (
        "gemini",
        "gemini-2.5-flash",
        Usage(input_tokens=1_000, input_audio_tokens=500, input_image_tokens=490, output_tokens=10),
        675_000,
    ),
    # gemini-2.5-flash: 0.03 for what is read from the cache, 0.10 for sound. 1,000 x 30 + 1,000 x 100
    "cached sound": (
        "gemini",
        "gemini-2.5-flash",
        Usage(cache_read_tokens=2_000, cache_read_audio_tokens=1_000),
        130_000,
    ),
    # gemini-2.5-flash-image: 0.30 in, 2.50 out, 30.00 for a picture's tokens. 10 x 300 + 1,120 x 30,000
    "drawn": (
        "gemini",
        "gemini-2.5-flash-image",
        Usage(input_tokens=10, output_tokens=1_120, output_image_tokens=1_120),
        33_603_000,
    ),
    # claude-sonnet-4-5: 3.00 in, 15.00 out, $10 for a thousand searches. 10 x 3,000 + 5 x 15,000 + 3 x 10,000,000
    "searches of the provider's own": (
        "anthropic",
        "claude-sonnet-4-5",
        Usage(input_tokens=10, output_tokens=5, web_searches=3),
        30_105_000,
    ),
    # text-embedding-3-small: 0.02 in. 13 x 20
    "embedding": ("openai", "text-embedding-3-small", Usage(input_tokens=13), 260),
    # perplexity/sonar: 1.00 in and out, and up to $0.012 for the search in each request.
    # 12,000,000 + 10 x 1,000 + 20 x 1,000
    "fee per request": ("perplexity", "sonar", Usage(input_tokens=10, output_tokens=20), 12_030_000),
}


@pytest.mark.parametrize(("provider", "model", "usage", "nano"), INVOICES.values(), ids=INVOICES)
def test_golden_invoice(provider: str, model: str, usage: Usage, nano: int) -> None:
    """The amount from the bundled price maps equals the one worked out by hand."""
    info = CATALOGUE.find(provider, model)
    assert info is not None
    assert info.price is not None
    assert cost_nano(info.price, usage) == nano


rates_per_token = st.decimals(min_value=0, max_value="0.001", places=12)
maybe_rate = st.none() | rates_per_token
rates = st.builds(
    Rates,
    input=rates_per_token,
    output=rates_per_token,
    cache_read=maybe_rate,
    cache_write=maybe_rate,
    cache_write_1h=maybe_rate,
    reasoning=maybe_rate,
    input_audio=maybe_rate,
    input_image=maybe_rate,
    cache_read_audio=maybe_rate,
    output_audio=maybe_rate,
    output_image=maybe_rate,
)
fees = st.decimals(min_value=0, max_value=1, places=6)
maybe_fee = st.none() | fees
#: What a search costs where nobody says: as much as any provider takes.
DEAREST_SEARCH = Decimal("0.05")


@st.composite
def prices(draw: st.DrawFn) -> Price:
    thresholds = sorted(draw(st.sets(st.integers(0, 300_000), max_size=3)))
    return Price(draw(rates), tuple(Tier(above, draw(rates)) for above in thresholds), draw(fees), draw(maybe_fee))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    fresh, read, written, output = (draw(st.integers(0, 150_000)) for _ in range(4))
    heard, said, drawn = draw(st.integers(0, fresh)), draw(st.integers(0, output)), draw(st.integers(0, output))
    drawn = min(drawn, output - said)
    return Usage(
        input_tokens=fresh,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=draw(st.integers(0, output - said - drawn)),
        cache_write_1h_tokens=draw(st.integers(0, written)),
        input_audio_tokens=heard,
        input_image_tokens=draw(st.integers(0, fresh - heard)),
        cache_read_audio_tokens=draw(st.integers(0, read)),
        output_audio_tokens=said,
        output_image_tokens=drawn,
        web_searches=draw(st.integers(0, 5)),
    )


@given(prices(), usages(), st.integers(0, 1_000), st.integers(0, 1_000))
def test_bound_covers_every_usage_within_it(price: Price, usage: Usage, more: int, more_output: int) -> None:
    """No usage within the tokens of a bound costs more than the bound, whatever was cached, written or thought."""
    bound = bound_nano(
        price,
        prompt_tokens=usage.prompt_tokens + more,
        output_tokens=usage.output_tokens + more_output,
        searches=usage.web_searches,
    )
    assert cost_nano(price, usage) <= bound


@given(prices(), usages())
def test_bound_is_met_when_all_is_dearest(price: Price, usage: Usage) -> None:
    """The bound is no more than the dearest rates of all tiers ask for: it does not refuse what fits."""
    every = [rates.billed for rates in (price.rates, *(tier.rates for tier in price.tiers))]
    prompt = max(rate for r in every for rate in (r.input, r.input_audio, r.input_image, *_cached(r)))
    output = max(rate for r in every for rate in (r.output, r.reasoning, r.output_audio, r.output_image))
    dollars = price.per_request + usage.prompt_tokens * prompt + usage.output_tokens * output
    bound = bound_nano(price, prompt_tokens=usage.prompt_tokens, output_tokens=usage.output_tokens)
    assert bound <= dollars * 10**9 + 1


def _cached(billed: Rates) -> tuple[Decimal | None, ...]:
    return billed.cache_read, billed.cache_read_audio, billed.cache_write, billed.cache_write_1h


@given(
    rates,
    fees,
    usages(),
    st.sampled_from(["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"]),
    st.integers(1, 150_000),
    st.lists(st.integers(1, 4), max_size=3),
)
def test_more_tokens_never_cost_less(
    base: Rates, fee: Decimal, usage: Usage, bucket: str, more: int, factors: list[int]
) -> None:
    """Cost rises with each bucket where the tiers for longer prompts are no cheaper, as everywhere in the maps."""
    tiers, factor = list[Tier](), 1
    for number, step in enumerate(factors):
        factor *= step
        tiers.append(Tier(100_000 * (number + 1), _times(base, factor)))
    price = Price(base, tuple(tiers), fee)
    longer = replace(usage, **{bucket: getattr(usage, bucket) + more})
    assert cost_nano(price, longer) >= cost_nano(price, usage)


def _times(base: Rates, factor: int) -> Rates:
    stated = {field.name: getattr(base, field.name) for field in fields(Rates)}
    return Rates(**{name: rate * factor for name, rate in stated.items() if rate is not None})


@given(prices())
def test_nothing_used_costs_the_fee(price: Price) -> None:
    """A request without a token costs its fee and nothing else."""
    assert cost_nano(price, Usage()) == price.per_request * 10**9


@given(rates, usages())
def test_buckets_are_disjoint(base: Rates, usage: Usage) -> None:
    """Each token is billed once: the cost is the sum of the buckets billed one by one, but for the rounding."""
    price = Price(base)
    wholes = {
        "input_tokens": ("input_audio_tokens", "input_image_tokens"),
        "cache_read_tokens": ("cache_read_audio_tokens",),
        "cache_write_tokens": ("cache_write_1h_tokens",),
        "output_tokens": ("reasoning_tokens", "output_audio_tokens", "output_image_tokens"),
    }
    alone = [Usage(web_searches=usage.web_searches)]
    for whole, parts in wholes.items():
        counts = {part: getattr(usage, part) for part in parts}
        alone.append(Usage(**{whole: getattr(usage, whole) - sum(counts.values())}))
        alone += [Usage(**{whole: count, part: count}) for part, count in counts.items()]
    parts = sum(cost_nano(price, part) for part in alone)
    assert parts - len(alone) < cost_nano(price, usage) <= parts


@given(prices(), usages())
def test_cost_is_the_exact_sum_rounded_up(price: Price, usage: Usage) -> None:
    """Reckoned with fractions of the published rates, the cost is the next whole nano-dollar."""
    above = [tier for tier in price.tiers if usage.prompt_tokens > tier.above]
    rates = above[-1].rates if above else price.rates
    search = DEAREST_SEARCH if price.per_search is None else price.per_search
    fees = Fraction(price.per_request) + usage.web_searches * Fraction(search)
    exact = fees + sum(Fraction(rate or 0) * tokens for rate, tokens in _buckets(rates.billed, usage))
    assert cost_nano(price, usage) == ceil(exact * 10**9)


def _buckets(rates: Rates, usage: Usage) -> list[tuple[Decimal | None, int]]:
    said, drawn = usage.output_audio_tokens, usage.output_image_tokens
    return [
        (rates.input, usage.input_tokens - usage.input_audio_tokens - usage.input_image_tokens),
        (rates.input_audio, usage.input_audio_tokens),
        (rates.input_image, usage.input_image_tokens),
        (rates.cache_read, usage.cache_read_tokens - usage.cache_read_audio_tokens),
        (rates.cache_read_audio, usage.cache_read_audio_tokens),
        (rates.cache_write, usage.cache_write_tokens - usage.cache_write_1h_tokens),
        (rates.cache_write_1h, usage.cache_write_1h_tokens),
        (rates.output, usage.output_tokens - usage.reasoning_tokens - said - drawn),
        (rates.reasoning, usage.reasoning_tokens),
        (rates.output_audio, said),
        (rates.output_image, drawn),
    ]


@given(prices(), usages())
def test_host_decimal_context_does_not_matter(price: Price, usage: Usage) -> None:
    """A host that works with three digits is billed the same."""
    expected = cost_nano(price, usage), bound_nano(price, prompt_tokens=usage.prompt_tokens, output_tokens=7)
    with localcontext(prec=3):
        bound = bound_nano(price, prompt_tokens=usage.prompt_tokens, output_tokens=7)
        assert (cost_nano(price, usage), bound) == expected


def test_cached_tokens_without_a_price_are_billed_as_fresh() -> None:
    """A missing rate is never a free one."""
    price = Price(Rates.per_million(input="3", output="15"))
    assert cost_nano(price, Usage(cache_read_tokens=10)) == 10 * 3_000
    assert cost_nano(price, Usage(cache_write_tokens=10, cache_write_1h_tokens=10)) == 10 * 3_000
    assert cost_nano(price, Usage(output_tokens=10, reasoning_tokens=10)) == 10 * 15_000


def test_sound_and_pictures_without_a_price_cost_the_dearest_that_is_known() -> None:
    """Nobody knows what they cost, so they are not taken for text where the other of them is dearer."""
    text = Price(Rates.per_million(input="3", output="15"))
    assert cost_nano(text, Usage(input_tokens=10, input_audio_tokens=4, input_image_tokens=6)) == 10 * 3_000
    heard = Price(Rates.per_million(input="3", output="15", input_audio="40", output_image="60"))
    assert cost_nano(heard, Usage(input_tokens=10, input_image_tokens=10)) == 10 * 40_000
    assert cost_nano(heard, Usage(output_tokens=10, output_audio_tokens=10)) == 10 * 60_000
    assert cost_nano(heard, Usage(cache_read_tokens=10, cache_read_audio_tokens=10)) == 10 * 40_000


def test_a_search_without_a_price_costs_what_the_dearest_does() -> None:
    """A fee that nobody states is never free; a stated zero is."""
    rates = Rates.per_million(input="1", output="1")
    assert cost_nano(Price(rates), Usage(web_searches=2)) == 2 * DEAREST_SEARCH * 10**9
    assert cost_nano(Price(rates, per_search=Decimal(0)), Usage(web_searches=2)) == 0


def test_long_writes_without_a_price_cost_what_short_ones_do() -> None:
    """The hour's rate falls back to the 5 minutes' one."""
    price = Price(Rates.per_million(input="3", output="15", cache_write="3.75"))
    assert cost_nano(price, Usage(cache_write_tokens=10, cache_write_1h_tokens=4)) == 10 * 3_750


def test_parts_beyond_their_whole_are_not_billed_twice() -> None:
    """A provider that reports more reasoning than output is believed about the output."""
    price = Price(Rates.per_million(input="1", output="2", cache_write="3", cache_write_1h="5", reasoning="4"))
    assert cost_nano(price, Usage(output_tokens=10, reasoning_tokens=99)) == 10 * 4_000
    assert cost_nano(price, Usage(cache_write_tokens=10, cache_write_1h_tokens=99)) == 10 * 5_000


def test_rounded_up_once() -> None:
    """Three tokens at 0.3 nano-dollars each come to one nano-dollar, not three; four come to two."""
    rate = Decimal("0.0000000003")
    price = Price(Rates(input=rate, output=rate))
    assert cost_nano(price, Usage(input_tokens=1, cache_read_tokens=1, output_tokens=1)) == 1
    assert cost_nano(price, Usage(input_tokens=2, output_tokens=2)) == 2


@pytest.mark.parametrize("tokens", [99, 100, 101])
def test_bound_knows_the_tiers_it_can_reach(tokens: int) -> None:
    """A prompt that may pass a threshold is bounded at the dearer rate, one that cannot is not."""
    dear = Rates.per_million(input="10", output="20")
    price = Price(Rates.per_million(input="1", output="2"), (Tier(100, dear),))
    input_rate, output_rate = (10_000, 20_000) if tokens > 100 else (1_000, 2_000)
    assert bound_nano(price, prompt_tokens=tokens, output_tokens=5) == tokens * input_rate + 5 * output_rate


def test_bound_allows_for_writing_everything_to_the_cache() -> None:
    """The dearest prompt rate counts, which for Anthropic is the write for an hour."""
    price = Price(Rates.per_million(input="2", output="10", cache_read="0.1", cache_write="2.5", cache_write_1h="4"))
    assert bound_nano(price, prompt_tokens=1_000, output_tokens=0) == 1_000 * 4_000


@pytest.mark.parametrize("bad", ["-1", "NaN", "Infinity", "-Infinity"])
def test_unusable_rates_are_refused(bad: str) -> None:
    """A price that is not a finite amount of at least zero never gets as far as a bill."""
    with pytest.raises(InvalidInputError, match="cache_read"):
        Rates(input=Decimal(1), output=Decimal(1), cache_read=Decimal(bad))
    with pytest.raises(InvalidInputError, match="per_request"):
        Price(Rates(input=Decimal(0), output=Decimal(0)), per_request=Decimal(bad))


@pytest.mark.parametrize("odd", ["1e-61", "1e10"])
def test_what_is_no_price_is_refused(odd: str) -> None:
    """A rate with so many digits is a mistake, and would make whole numbers of any length."""
    with pytest.raises(InvalidInputError, match="check the unit"):
        Rates(input=Decimal(odd), output=Decimal(1))


def test_text_that_is_no_number_is_refused() -> None:
    """The message names the field and the value."""
    with pytest.raises(InvalidInputError, match="output='1,5'"):
        Rates.per_million(input="1", output="1,5")


@pytest.mark.parametrize("thresholds", [(2, 1), (1, 1), (-1,)])
def test_tiers_out_of_order_are_refused(thresholds: tuple[int, ...]) -> None:
    """Thresholds rise, so that the last one reached is the one that counts."""
    one = Rates(input=Decimal(0), output=Decimal(0))
    with pytest.raises(InvalidInputError, match="rising"):
        Price(one, tuple(Tier(above, one) for above in thresholds))


def test_absurd_bounds_are_refused() -> None:
    """More than a bigint of nano-dollars is a mistake of units, and says so before anything is reserved."""
    price = Price(Rates.per_million(input="10", output="50"))
    with pytest.raises(InvalidInputError, match="worst case of this call"):
        bound_nano(price, prompt_tokens=0, output_tokens=10**18)
