"""instructor's own client over ours, against real HTTP: what it asks, what it counts, what the ledger has."""

import subprocess
import sys
from decimal import Decimal

import instructor
import psycopg
import pytest
from instructor.core.exceptions import InstructorRetryException
from pydantic import BaseModel

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.instructor_client import instructor_client
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Usage
from llm_common.testing import Fault, Reply

USAGE = Usage(input_tokens=100, output_tokens=50)
# openai/gpt-6-luna: .10 in, .50 out per million
COST = Decimal("0.000035")
MODEL = "openai/gpt-6-luna"
MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA, instructor.Mode.MD_JSON]
ASK = [{"role": "user", "content": "Judge!"}]


class Verdict(BaseModel):
    guilty: bool
    reason: str


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


def bad() -> Reply:
    return Reply(text='{"guilty": "maybe"}', usage=USAGE)


def good() -> Reply:
    return Reply(text='{"guilty": true, "reason": "r"}', usage=USAGE)


@pytest.mark.parametrize("mode", MODES)
async def test_instructor_asks_again_and_each_request_has_its_row(provider, dsn, mode):
    """A misfit and an answer: instructor counts the tokens of both, and the ledger has a row for each."""
    provider.script(bad(), good())
    tracker = CostTracker(dsn, project="host")
    async with LLMClient(cost_tracker=tracker, model=MODEL) as llm:
        patched = instructor_client(llm, mode)
        verdict, raw = await patched.chat.completions.create_with_completion(
            messages=ASK, response_model=Verdict, max_retries=2, step="judge", user_id="u1"
        )
    await tracker.aclose()
    assert verdict.model_dump() == {"guilty": True, "reason": "r"}
    assert raw.usage.total_tokens == 300
    assert len(provider.requests) == 2
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute("SELECT model, step, user_id, status, cost_usd FROM cost_tracking")
        assert await rows.fetchall() == [(MODEL, "judge", "u1", "ok", COST)] * 2


async def test_the_property_asks_by_tools_over_the_clients_own_key(provider):
    """`llm.instructor_client` is bound to the client's provider, key and URL; our retries hold beneath it."""
    provider.script(Fault.server_error(503), good())
    llm = LLMClient(cost_tracker=LocalLedger(), model=MODEL, retry=RetryPolicy(base_wait=0.01), breakers=Breakers())
    verdict = await llm.instructor_client.create(messages=ASK, response_model=Verdict)
    await llm.aclose()
    assert isinstance(llm.instructor_client, instructor.AsyncInstructor)
    assert verdict.guilty
    assert [request.body["tool_choice"]["function"]["name"] for request in provider.requests] == ["Verdict"] * 2


async def test_a_budget_holds_for_instructors_calls(provider):
    """The second request does not fit: it is not sent, and the reason is the cause."""
    llm = LLMClient(cost_tracker=LocalLedger(), model=MODEL, budget_limit_usd="0.0008")
    provider.script(Reply(text='{"guilty": "maybe"}', cost_usd=None, usage=Usage(100, output_tokens=1000)))
    with pytest.raises(InstructorRetryException) as caught:
        await llm.instructor_client.create(messages=ASK, response_model=Verdict, max_tokens=1000, max_retries=2)
    await llm.aclose()
    assert isinstance(caught.value.__cause__, BudgetExceededError)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON])
async def test_partial_objects_stream_through_instructor(provider, mode):
    """`create_partial` grows its object from our stream, which is paid at its end."""
    ledger = LocalLedger()
    provider.script(good())
    async with LLMClient(cost_tracker=ledger, model=MODEL) as llm:
        patched = instructor_client(llm, mode)
        seen = [partial async for partial in patched.create_partial(messages=ASK, response_model=Verdict)]
    assert (seen[-1].guilty, seen[-1].reason) == (True, "r")
    assert len(seen) > 1
    assert Decimal(ledger.spent_today_nano).scaleb(-9) == COST


async def test_without_a_response_model_it_is_the_plain_completion(provider):
    """instructor hands the provider's object through."""
    provider.script(Reply(text="Hello.", usage=USAGE))
    async with LLMClient(cost_tracker=LocalLedger(), model=MODEL) as llm:
        raw = await llm.instructor_client.create(messages=ASK, response_model=None)
    assert (raw.choices[0].message.content, raw.usage.prompt_tokens) == ("Hello.", 100)


def test_a_missing_instructor_is_told_with_what_to_install():
    """The extra is named, and nothing else of the client needs it."""
    program = (
        "import sys; sys.modules['instructor'] = None\n"
        "from llm_common import LLMClient\n"
        "try: LLMClient().instructor_client\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("ConfigurationError")
    assert "llm-common[instructor]" in result.stdout
