"""Budgets of single models, when a call falls back from one model to another."""

from decimal import Decimal

import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.db import Database
from llm_common.exceptions import BudgetExceededError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget, Usage
from llm_common.testing import Fault, Reply

FIRST, SECOND = "zai/glm-5.3", "openai/gpt-6-luna"
ONCE = RetryPolicy(max_attempts=1)


def on_second(limit: str) -> Budget:
    return Budget(Decimal(limit), "day", "model", SECOND)


@pytest.fixture(params=["local", "postgres"])
def ledger_with(request: pytest.FixtureRequest, db: Database):
    def make(*budgets: Budget) -> LocalLedger | CostTracker:
        return LocalLedger(budgets) if request.param == "local" else CostTracker(db, project="p", budgets=budgets)

    return make


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


async def test_a_fallback_that_its_models_budget_does_not_cover_is_not_sent(provider, ledger_with):
    """The first model fails; the second one's budget is too small for the call, so the provider never sees it."""
    ledger = ledger_with(on_second("0.00000001"))
    provider.script(Fault.server_error(500))
    async with LLMClient(cost_tracker=ledger, retry=ONCE, breakers=Breakers()) as llm:
        with pytest.raises(BudgetExceededError) as refused:
            await llm.complete("hello", models=[FIRST, SECOND], max_tokens=100)
        assert refused.value.budget == f"model:{SECOND}/day"
        assert len(provider.requests) == 1


async def test_a_streamed_fallback_is_held_to_it_too(provider, ledger_with):
    """The stream of the second model is never opened."""
    provider.script(Fault.server_error(500))
    async with LLMClient(cost_tracker=ledger_with(on_second("0.00000001")), retry=ONCE, breakers=Breakers()) as llm:
        with pytest.raises(BudgetExceededError):
            async with llm.stream("hello", models=[FIRST, SECOND], max_tokens=100):
                pass
        assert len(provider.requests) == 1


async def test_a_fallback_within_its_models_budget_is_paid_from_it(provider, ledger_with):
    """Settled: what the call cost has left the second model's budget, and nothing stays reserved for the first."""
    ledger = ledger_with(on_second("1"), Budget(Decimal(1), "day", "model", FIRST))
    provider.script(Fault.server_error(500), Reply(text="hi", usage=Usage(input_tokens=100, output_tokens=50)))
    async with LLMClient(cost_tracker=ledger, retry=ONCE, breakers=Breakers()) as llm:
        answer = await llm.complete("hello", models=[FIRST, SECOND], max_tokens=100)
        assert answer.model == SECOND
    if isinstance(ledger, CostTracker):
        status = {window.scope: window for window in await ledger.budget_status()}
        assert status[f"model:{SECOND}"].spent_usd == answer.cost_usd
        assert (status[f"model:{FIRST}"].spent_usd, status[f"model:{FIRST}"].reserved_usd) == (0, 0)
