"""What a call cost, and the most it can cost. Pure: prices in, integer nano-dollars out.

How providers bill (https://developers.openai.com/api/docs/pricing, https://platform.claude.com/docs/en/about-claude/pricing,
https://ai.google.dev/gemini-api/docs/pricing): each token bucket has its rate; once the prompt (fresh, cached and
written tokens together) is longer than a threshold, the whole request is billed at that tier's rates. A bucket
without a rate of its own is billed as fresh input, reasoning without one as output: what is unknown is never free.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from itertools import accumulate
from typing import Self, TypeVar, cast

from llm_common.exceptions import InvalidInputError
from llm_common.money import billable_nano
from llm_common.usage import Usage

__all__ = ["Price", "Rates", "Tier", "bound_nano", "cost_nano"]

T = TypeVar("T")

# The host's own decimal context may be short; a rate must be taken as it is.
_EXACT = Context(prec=100)
_MOST_DECIMALS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars per token. None: no rate of its own.

    `cache_write` is for the short lifetime (5 minutes on Anthropic), `cache_write_1h` for the long one; without
    one the long lifetime costs what the short one does. Zero is a rate, and means free.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning"):
            _check(name, getattr(self, name))

    @classmethod
    def per_million(
        cls,
        *,
        input: Decimal | str,  # noqa: A002 (the field's name)
        output: Decimal | str,
        cache_read: Decimal | str | None = None,
        cache_write: Decimal | str | None = None,
        cache_write_1h: Decimal | str | None = None,
        reasoning: Decimal | str | None = None,
    ) -> Self:
        """The rates as price lists print them: `Rates.per_million(input="1.40", cache_read="0.26", output="4.40")`."""
        return cls(
            input=_per_token("input", input),
            output=_per_token("output", output),
            cache_read=None if cache_read is None else _per_token("cache_read", cache_read),
            cache_write=None if cache_write is None else _per_token("cache_write", cache_write),
            cache_write_1h=None if cache_write_1h is None else _per_token("cache_write_1h", cache_write_1h),
            reasoning=None if reasoning is None else _per_token("reasoning", reasoning),
        )

    @property
    def billed_cache_read(self) -> Decimal:
        return self.input if self.cache_read is None else self.cache_read

    @property
    def billed_cache_write(self) -> Decimal:
        return self.input if self.cache_write is None else self.cache_write

    @property
    def billed_cache_write_1h(self) -> Decimal:
        return self.billed_cache_write if self.cache_write_1h is None else self.cache_write_1h

    @property
    def billed_reasoning(self) -> Decimal:
        return self.output if self.reasoning is None else self.reasoning


@dataclass(frozen=True, slots=True)
class Tier:
    """The rates of a whole request whose prompt has more than `above` tokens."""

    above: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """All that is needed to bill a call to one model.

    `rates` are for ordinary prompts, `tiers` for long ones, `per_request` is a fee in US dollars on top.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    per_request: Decimal = Decimal(0)
    bill: "Bill" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("per_request", self.per_request)
        thresholds = [tier.above for tier in self.tiers]
        if thresholds != sorted(set(thresholds)) or any(above < 0 for above in thresholds):
            raise InvalidInputError(f"a price's tiers must have rising thresholds of at least 0, not {thresholds}")
        object.__setattr__(self, "bill", _bill_of(self.per_request, self.rates, self.tiers))


@dataclass(frozen=True, slots=True)
class WholeRates:
    """What a token of each bucket is billed at, in parts of a nano-dollar."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Bill:
    """A price in whole numbers: as exact as its decimals, at a third of their CPU, which every call spends twice.

    Both by the length beyond which they hold, ascending, from -1: `tiers` has the rates of a request, `dearest` the
    highest (of a prompt's token, of an answer's) that any request up to the next length meets.
    """

    parts_per_nano: int
    per_request: int
    tiers: tuple[tuple[int, WholeRates], ...]
    dearest: tuple[tuple[int, tuple[int, int]], ...]


def _reached(tiers: Sequence[tuple[int, T]], prompt_tokens: int) -> T:
    """What holds for a prompt of this length, its cached and written tokens included."""
    for above, held in reversed(tiers):
        if prompt_tokens > above:
            return held
    raise InvalidInputError(f"a prompt cannot have {prompt_tokens} tokens")


def _bill_of(per_request: Decimal, rates: Rates, tiers: tuple[Tier, ...]) -> Bill:
    billed = [_billed(rates), *(_billed(tier.rates) for tier in tiers)]
    digits = max(_decimals(amount) for amount in (per_request, *(rate for each in billed for rate in each)))
    # Nano-dollars have nine decimals; a rate with more is a whole number of their parts.
    parts_per_nano = 10 ** max(0, digits - 9)

    def whole(dollars: Decimal) -> int:
        return int(dollars.scaleb(max(digits, 9), context=_EXACT))

    every = [WholeRates(*map(whole, each)) for each in billed]
    above = [-1, *(tier.above for tier in tiers)]
    return Bill(
        parts_per_nano,
        whole(per_request),
        tuple(zip(above, every, strict=True)),
        tuple(zip(above, accumulate((_dearest(rates) for rates in every), _dearer), strict=True)),
    )


def _billed(rates: Rates) -> tuple[Decimal, ...]:
    """In the order of `WholeRates`."""
    return (
        rates.input,
        rates.output,
        rates.billed_cache_read,
        rates.billed_cache_write,
        rates.billed_cache_write_1h,
        rates.billed_reasoning,
    )


def _dearest(rates: WholeRates) -> tuple[int, int]:
    prompt = max(rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h)
    return prompt, max(rates.output, rates.reasoning)


def _dearer(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


def _decimals(dollars: Decimal) -> int:
    return max(0, -cast("int", dollars.as_tuple().exponent))


def cost_nano(price: Price, usage: Usage) -> int:
    """The cost of one request in nano-dollars: exact, and rounded up once, at the end."""
    bill = price.bill
    rates = _reached(bill.tiers, usage.prompt_tokens)
    # These two are parts of another bucket; a provider that reports more than the whole must not be billed twice.
    written_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    parts = (
        bill.per_request
        + usage.input_tokens * rates.input
        + usage.cache_read_tokens * rates.cache_read
        + (usage.cache_write_tokens - written_1h) * rates.cache_write
        + written_1h * rates.cache_write_1h
        + (usage.output_tokens - reasoning) * rates.output
        + reasoning * rates.reasoning
    )
    return billable_nano(-(-parts // bill.parts_per_nano), name="the cost of this call")


def bound_nano(price: Price, *, prompt_tokens: int, output_tokens: int) -> int:
    """The most that one request can cost, in nano-dollars, if it stays within these numbers of tokens.

    Nobody knows beforehand what will be read from a cache or written to one, so every token is taken at the
    dearest rate that a prompt of up to this length can meet.
    """
    bill = price.bill
    prompt, output = _reached(bill.dearest, prompt_tokens)
    parts = bill.per_request + prompt_tokens * prompt + output_tokens * output
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
