"""What a call cost, and the most it can cost. Pure: prices in, integer nano-dollars out.

How providers bill (https://developers.openai.com/api/docs/pricing, https://platform.claude.com/docs/en/about-claude/pricing,
https://ai.google.dev/gemini-api/docs/pricing): each token bucket has its rate; once the prompt (fresh, cached and
written tokens together) is longer than a threshold, the whole request is billed at that tier's rates. A bucket
without a rate of its own is billed as fresh input, reasoning without one as output: what is unknown is never free.
Searches that the provider makes for the model are billed by the piece.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Context, Decimal
from itertools import accumulate
from operator import attrgetter, mul
from typing import Required, Self, TypedDict, TypeVar, Unpack, cast

from llm_common.exceptions import InvalidInputError
from llm_common.money import billable_nano
from llm_common.usage import Usage

__all__ = ["Price", "Rates", "Tier", "bound_nano", "cost_nano"]

T = TypeVar("T")

# The host's own decimal context may be short; a rate must be taken as it is.
_EXACT = Context(prec=100)
_MOST_DECIMALS = 60
#: The dearest fee that providers took for one search of the web (OpenAI's, in the widest context, in 2025).
_DEAREST_SEARCH = Decimal("0.05")


class _PerMillion(TypedDict, total=False):
    input: Required[Decimal | str]
    output: Required[Decimal | str]
    cache_read: Decimal | str | None
    cache_write: Decimal | str | None
    cache_write_1h: Decimal | str | None
    reasoning: Decimal | str | None
    input_audio: Decimal | str | None
    input_image: Decimal | str | None
    cache_read_audio: Decimal | str | None
    output_audio: Decimal | str | None
    output_image: Decimal | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars per token. None: no rate of its own.

    `cache_write` is for the short lifetime (5 minutes on Anthropic), `cache_write_1h` for the long one; without
    one the long lifetime costs what the short one does. `input_image` is for pictures and video. Sound and pictures
    without a rate cost the dearest one known for their side. Zero is a rate, and means free.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    input_audio: Decimal | None = None
    input_image: Decimal | None = None
    cache_read_audio: Decimal | None = None
    output_audio: Decimal | None = None
    output_image: Decimal | None = None

    def __post_init__(self) -> None:
        for bucket in fields(self):
            _check(bucket.name, getattr(self, bucket.name))

    @classmethod
    def per_million(cls, **dollars: Unpack[_PerMillion]) -> Self:
        """The rates as price lists print them: `Rates.per_million(input="1.40", cache_read="0.26", output="4.40")`."""
        stated = cast("Mapping[str, Decimal | str | None]", dollars)
        return cls(**{name: _per_token(name, amount) for name, amount in stated.items() if amount is not None})

    @property
    def billed(self) -> "Rates":
        """What each bucket is billed at: no rate is None."""
        cache_write = _first(self.cache_write, self.input)
        input_audio = _first(self.input_audio, max(self.input, _first(self.input_image, self.input)))
        output_audio = _first(self.output_audio, max(self.output, _first(self.output_image, self.output)))
        return Rates(
            input=self.input,
            output=self.output,
            cache_read=_first(self.cache_read, self.input),
            cache_write=cache_write,
            cache_write_1h=_first(self.cache_write_1h, cache_write),
            reasoning=_first(self.reasoning, self.output),
            input_audio=input_audio,
            input_image=_first(self.input_image, max(self.input, input_audio)),
            cache_read_audio=_first(self.cache_read_audio, input_audio),
            output_audio=output_audio,
            output_image=_first(self.output_image, max(self.output, output_audio)),
        )


_OF_PROMPT = ("input", "input_audio", "input_image", "cache_read", "cache_read_audio", "cache_write", "cache_write_1h")
_OF_ANSWER = ("output", "reasoning", "output_audio", "output_image")
_in_order = attrgetter(*_OF_PROMPT, *_OF_ANSWER)


def _counts(usage: Usage) -> tuple[int, ...]:
    """The tokens of each bucket, none in two and in order: parts that are reported above their whole are cut to it."""
    audio = min(usage.input_audio_tokens, usage.input_tokens)
    image = min(usage.input_image_tokens, usage.input_tokens - audio)
    read_audio = min(usage.cache_read_audio_tokens, usage.cache_read_tokens)
    written_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    said = min(usage.output_audio_tokens, usage.output_tokens)
    drawn = min(usage.output_image_tokens, usage.output_tokens - said)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens - said - drawn)
    return (
        usage.input_tokens - audio - image,
        audio,
        image,
        usage.cache_read_tokens - read_audio,
        read_audio,
        usage.cache_write_tokens - written_1h,
        written_1h,
        usage.output_tokens - said - drawn - reasoning,
        reasoning,
        said,
        drawn,
    )


@dataclass(frozen=True, slots=True)
class Tier:
    """The rates of a whole request whose prompt has more than `above` tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """All that is needed to bill a call to one model.

    `rates` are for ordinary prompts, `tiers` for long ones, `per_request` is a fee in US dollars on top. `per_search`
    is the fee of each web search that the provider makes for the model; None: as much as any provider takes.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    per_request: Decimal = Decimal(0)
    per_search: Decimal | None = None
    bill: "Bill" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("per_request", self.per_request)
        _check("per_search", self.per_search)
        thresholds = [tier.above for tier in self.tiers]
        if thresholds != sorted(set(thresholds)) or any(above < 0 for above in thresholds):
            raise InvalidInputError(f"a price's tiers must have rising thresholds of at least 0, not {thresholds}")
        object.__setattr__(self, "bill", _bill_of(self))


@dataclass(frozen=True, slots=True)
class Bill:
    """A price in whole numbers: as exact as its decimals, at a third of their CPU, which every call spends twice.

    Amounts are in parts of a nano-dollar. Both by the length beyond which they hold, ascending, from -1: `tiers` has
    the rates of a request in order, `dearest` the highest (of a prompt's token, of an answer's) that
    any request up to the next length meets.
    """

    parts_per_nano: int
    per_request: int
    per_search: int
    tiers: tuple[tuple[int, tuple[int, ...]], ...]
    dearest: tuple[tuple[int, tuple[int, int]], ...]


def _reached(tiers: Sequence[tuple[int, T]], prompt_tokens: int) -> T:
    """What holds for a prompt of this length, its cached and written tokens included."""
    for above, held in reversed(tiers):
        if prompt_tokens > above:
            return held
    raise InvalidInputError(f"a prompt cannot have {prompt_tokens} tokens")


def _bill_of(price: Price) -> Bill:
    billed = [_in_order(rates.billed) for rates in (price.rates, *(tier.rates for tier in price.tiers))]
    per_search = _first(price.per_search, _DEAREST_SEARCH)
    amounts = (price.per_request, per_search, *(rate for each in billed for rate in each))
    digits = max(map(_decimals, amounts))
    # Nano-dollars have nine decimals; a rate with more is a whole number of their parts.
    parts_per_nano = 10 ** max(0, digits - 9)

    def whole(dollars: Decimal) -> int:
        return int(dollars.scaleb(max(digits, 9), context=_EXACT))

    every = [tuple(map(whole, each)) for each in billed]
    above = [-1, *(tier.above for tier in price.tiers)]
    return Bill(
        parts_per_nano,
        whole(price.per_request),
        whole(per_search),
        tuple(zip(above, every, strict=True)),
        tuple(zip(above, accumulate(map(_dearest, every), _dearer), strict=True)),
    )


def _dearest(rates: tuple[int, ...]) -> tuple[int, int]:
    return max(rates[: len(_OF_PROMPT)]), max(rates[len(_OF_PROMPT) :])


def _dearer(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


def _decimals(dollars: Decimal) -> int:
    return max(0, -cast("int", dollars.as_tuple().exponent))


def _first(stated: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if stated is None else stated


def cost_nano(price: Price, usage: Usage) -> int:
    """The cost of one request in nano-dollars: exact, and rounded up once, at the end."""
    bill = price.bill
    rates = _reached(bill.tiers, usage.prompt_tokens)
    parts = bill.per_request + usage.web_searches * bill.per_search + sum(map(mul, _counts(usage), rates))
    return billable_nano(-(-parts // bill.parts_per_nano), name="the cost of this call")


def bound_nano(price: Price, *, prompt_tokens: int, output_tokens: int, searches: int = 0) -> int:
    """The most that one request can cost, in nano-dollars, if it stays within these numbers.

    Nobody knows beforehand what will be read from a cache, written to one, heard or drawn, so every token is taken at
    the dearest rate that a prompt of up to this length can meet.
    """
    bill = price.bill
    prompt, output = _reached(bill.dearest, prompt_tokens)
    parts = bill.per_request + searches * bill.per_search + prompt_tokens * prompt + output_tokens * output
    return billable_nano(-(-parts // bill.parts_per_nano), name="the worst case of this call")


def _per_token(name: str, dollars: Decimal | str) -> Decimal:
    try:
        return Decimal(dollars).scaleb(-6, context=_EXACT)
    except ArithmeticError as error:
        raise InvalidInputError(f"price {name}={dollars!r} is not a number of US dollars per million tokens") from error


def _check(name: str, rate: Decimal | None) -> None:
    if rate is not None and not (rate.is_finite() and rate >= 0):
        raise InvalidInputError(f"price {name} must be zero or a positive number of US dollars, not {rate}")
    if rate is not None and (_decimals(rate) > _MOST_DECIMALS or rate > 10**9):
        raise InvalidInputError(f"price {name}={rate} is no price of a token or a request; check the unit")
