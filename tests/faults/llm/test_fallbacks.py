"""Who is asked after whom: windows, safety rules, empty answers, and what must never be asked elsewhere."""

import pytest

from llm_common.exceptions import (
    AllModelsFailed,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ContentPolicyError,
    ContextWindowError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import BreakerPolicy, Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget
from llm_common.testing import Fault, Reply

MIDDLE = "zai/glm-4.6"
SMALL = "openai/gpt-4o-mini"
LARGE = "openai/gpt-6-luna"


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
async def llm(provider):
    async with LLMClient(cost_tracker=LocalLedger(), retry=RetryPolicy(base_wait=0.01), breakers=Breakers()) as client:
        yield client


def asked(provider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


async def test_too_long_for_one_window_goes_to_a_larger_one(llm, provider):
    """The smaller one in between would only refuse again, so it is left out."""
    provider.script(Fault.context_window(), "It fits.")
    assert await llm.chat_with_fallback("Is it?", [MIDDLE, SMALL, LARGE]) == "It fits."
    assert asked(provider) == ["glm-4.6", "gpt-6-luna"]


async def test_too_long_for_the_largest_window_is_told_as_it_is(llm, provider):
    """Where no larger window is left, one request was enough to know it."""
    provider.script(Fault.context_window())
    with pytest.raises(ContextWindowError):
        await llm.chat_with_fallback("Is it?", [MIDDLE, SMALL])
    assert asked(provider) == ["glm-4.6"]


@pytest.mark.parametrize(
    "refusal", [Fault.content_filter(), Reply(text="", finish_reason="content_filter")], ids=["status", "finish"]
)
async def test_safety_rules_stop_the_chain_unless_asked_otherwise(llm, provider, refusal):
    """A refusal is the answer to the caller's own prompt; who wants another model's rules tried says so."""
    provider.script(refusal)
    with pytest.raises(ContentPolicyError):
        await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE])
    assert asked(provider) == ["glm-4.6"]


async def test_safety_rules_of_the_next_model_if_asked_for(llm, provider):
    """`fallback_on_content_policy` goes on to the next, in all three forms of a call."""
    choice = {"models": [MIDDLE, LARGE], "fallback_on_content_policy": True}
    provider.script(*[Fault.content_filter(), "Yes."] * 3)
    assert (await llm.complete("Is it?", **choice)).model == LARGE
    assert await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE], fallback_on_content_policy=True) == "Yes."
    async with llm.stream("Is it?", **choice) as stream:
        assert [delta.text async for delta in stream] == ["Yes."]
    assert asked(provider) == ["glm-4.6", "gpt-6-luna"] * 3
    assert all("fallback_on_content_policy" not in request.body for request in provider.requests)


async def test_when_all_refuse_everybodys_refusal_is_told(llm, provider):
    """With the attempts of each."""
    provider.script(Fault.content_filter(), Fault.content_filter())
    with pytest.raises(AllModelsFailed) as caught:
        await llm.complete("Is it?", models=[MIDDLE, LARGE], fallback_on_content_policy=True)
    assert {type(error) for error in caught.value.errors.values()} == {ContentPolicyError}
    assert [attempt.status for attempt in caught.value.attempts] == [400, 400]


async def test_a_model_that_says_nothing_gives_way(llm, provider):
    """Empty three times, then the next one is asked."""
    provider.script(*[Reply(text="")] * 3, "Yes.")
    assert await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE]) == "Yes."
    assert asked(provider) == ["glm-4.6"] * 3 + ["gpt-6-luna"]


async def test_what_is_the_callers_own_is_not_asked_elsewhere(llm, provider):
    """A refused key, a bad request and an empty budget end the chain at once."""
    provider.script(Fault.unauthorized(), Fault.zai_error(1214))
    for error in (AuthenticationError, BadRequestError):
        with pytest.raises(error):
            await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE])
    poor = LocalLedger([Budget(limit_usd="0.0000001", scope="model", value=MIDDLE)])
    with pytest.raises(BudgetExceededError):
        await llm.complete("Is it?", models=[MIDDLE, LARGE], ledger=poor)
    assert asked(provider) == ["glm-4.6"] * 2


async def test_health_shows_each_state_of_a_circuit(provider):
    """Closed while failures are few, open after more, half-open when it may be probed, gone after a success."""
    now = [0.0]
    breakers = Breakers(BreakerPolicy(threshold=2, cooldown=10), lambda: now[0])
    async with LLMClient(cost_tracker=LocalLedger(), retry=RetryPolicy(max_attempts=1), breakers=breakers) as llm:
        provider.script(Fault.server_error(), "Yes.", Fault.server_error(), "Yes.")
        seen = []
        for _ in range(2):
            await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE])
            seen += llm.health().values()
        now[0] = 11.0
        seen += llm.health().values()
        await llm.chat_with_fallback("Is it?", [MIDDLE, LARGE])
        assert seen == ["closed", "open", "half-open"]
        assert llm.health() == {}
