"""Who is asked next after which error."""

import pytest

from llm_common.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConnectionFailedError,
    ContentPolicyError,
    ContextWindowError,
    DeadlineExceededError,
    EmptyAnswerError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    StructuredOutputError,
)
from llm_common.llm.breaker import BreakerPolicy, Breakers
from llm_common.llm.candidates import Candidate
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.fallback import FallbackChain, may_follow
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.providers.direct import DirectWire
from llm_common.llm.wire import Route

PRICE = Price(rates=Rates.per_million(input="1", output="1"))


def candidate(name: str, window: int | None = None) -> Candidate:
    route = Route(asked=f"zai/{name}", provider="zai", name=name, wire="direct", base_url="http://x", api_key="k")
    info = None if window is None else ModelInfo(provider="zai", name=name, max_input_tokens=window)
    return Candidate(route=route, wire=DirectWire(), info=info, price=PRICE, price_source="map")


SMALL, SAME, LARGE, UNKNOWN = candidate("s", 1000), candidate("t", 1000), candidate("l", 2000), candidate("u")


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (RateLimitError("x"), True),
        (QuotaExhaustedError("x"), True),
        (ProviderError("x"), True),
        (DeadlineExceededError("x"), True),
        (ConnectionFailedError("x"), True),
        (EmptyAnswerError("x"), True),
        (StructuredOutputError("x"), True),
        (ModelNotFoundError("x"), True),
        (BudgetExceededError("x"), False),
        (AuthenticationError("x"), False),
        (BadRequestError("x"), False),
        (ContentPolicyError("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LLMError) else "",
)
def test_who_may_follow(error: LLMError, goes_on: bool):
    """Another model is asked for what it may do better, never for the caller's own mistakes."""
    assert may_follow(error, SMALL, [SAME], on_content_policy=False) == ([SAME] if goes_on else [])


def test_safety_rules_are_tried_elsewhere_if_asked_for():
    """Then every one that waits may follow."""
    assert may_follow(ContentPolicyError("x"), SMALL, [SAME, LARGE], on_content_policy=True) == [SAME, LARGE]
    assert may_follow(BadRequestError("x"), SMALL, [SAME], on_content_policy=True) == []


def test_what_was_too_long_goes_to_a_larger_window():
    """Smaller and equal windows are left out; an unknown one may be large, and one that refused says nothing then."""
    waiting = [SAME, LARGE, UNKNOWN]
    assert may_follow(ContextWindowError("x"), SMALL, waiting, on_content_policy=False) == [LARGE, UNKNOWN]
    assert may_follow(ContextWindowError("x"), LARGE, waiting, on_content_policy=False) == [UNKNOWN]
    assert may_follow(ContextWindowError("x"), UNKNOWN, waiting, on_content_policy=False) == waiting


def test_the_last_that_is_left_is_asked_though_its_circuit_is_open():
    """Also when it is the last because the others were let go of."""
    breakers = Breakers(BreakerPolicy(threshold=1))
    breakers.failed(LARGE.circuit, ProviderError("503"))
    passed_by = FallbackChain([LARGE, SMALL], breakers, on_content_policy=False)
    assert (passed_by.next(), passed_by.has_more) == (SMALL, False)
    chain = FallbackChain([SMALL, LARGE, SAME], breakers, on_content_policy=False)
    assert chain.next() is SMALL
    chain.failed(SMALL, ContextWindowError("too long"))
    assert (chain.next(), chain.next()) == (LARGE, None)
