"""`LLMClient.embed` against real HTTP, over both wires: vectors, money, and what comes of faults."""

import asyncio
import threading
from decimal import Decimal

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ContextWindowError,
    DeadlineExceededError,
    InvalidAnswerError,
    InvalidInputError,
    LLMError,
    ProviderError,
    RateLimitError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.hooks import Hooks
from llm_common.llm.providers.litellm_call import load_litellm
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget
from llm_common.testing import Fault, Reply
from llm_common.testing.embeddings_wire import embed as true_vector

# LiteLLM silences the first remark when it is imported; the second is its SDK's about an answer that is no list.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Accessing the 'model_:DeprecationWarning", "ignore:Pydantic serializer warnings:UserWarning"
)

FAST = RetryPolicy(base_wait=0.01)
MODEL = "openai/text-embedding-3-small"
RATE = Decimal("2E-8")


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture(params=["direct", "litellm"])
async def wire(request):
    if request.param == "litellm":
        await load_litellm()  # not on the time of a call: the machine may be busy
    return request.param


@pytest.fixture
async def llm(provider, ledger, wire):
    async with LLMClient(cost_tracker=ledger, retry=FAST, breakers=Breakers(), wire=wire) as client:
        yield client


@pytest.fixture
async def direct(provider, ledger):
    async with LLMClient(cost_tracker=ledger, retry=FAST, breakers=Breakers()) as client:
        yield client


def spent(ledger) -> Decimal:
    return Decimal(ledger.spent_today_nano).scaleb(-9)


async def test_each_text_gets_its_vector_in_order(llm, ledger, provider):
    """Over several requests at once; usage, cost and price source are those of all of them."""
    texts = [f"text number {n}" for n in range(10)]
    result = await llm.embed(texts, MODEL, dimensions=32, batch_size=3)
    for text, vector in zip(texts, result.vectors, strict=True):
        assert list(vector) == pytest.approx(true_vector(text, 32), abs=1e-6)
    assert (result.dimensions, result.model, result.provider) == (32, MODEL, "openai")
    assert result.answered_by == "text-embedding-3-small"
    assert len(result.attempts) == len(provider.requests) == 4
    assert result.usage.output_tokens == 0
    assert result.cost_usd == result.usage.input_tokens * RATE == spent(ledger)
    assert result.price_source == "map"


async def test_one_text_gives_one_vector(llm):
    """And `.vector` is for that case only."""
    assert len((await llm.embed("a bill", MODEL, dimensions=8)).vector) == 8
    with pytest.raises(InvalidInputError, match="2 vectors"):
        _ = (await llm.embed(["a", "b"], MODEL, dimensions=8)).vector


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.unauthorized(), AuthenticationError),
        (Fault.not_json(), InvalidAnswerError),
        (Fault.wrong_content_type(), InvalidAnswerError),
        (Fault.truncated_json(), InvalidAnswerError),
        (Fault.empty_choices(), InvalidAnswerError),
        (Fault.wrong_schema(), InvalidAnswerError),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_faults_are_typed_and_leave_by_the_same_door(llm, ledger, provider, fault, error):
    """As over chat: the class, the attempts and the charge; an answer that cannot be used may be billed."""
    provider.script(*[fault] * 3, endpoint="embeddings")
    with pytest.raises(error) as told:
        await llm.embed(["a", "b"], MODEL)
    assert len(told.value.attempts) == len(provider.requests) >= 1
    assert told.value.cost_usd == spent(ledger)
    assert (spent(ledger) > 0) == (error is InvalidAnswerError)


async def test_a_rate_limit_is_waited_for(llm, provider):
    """One owner of retries, as for a chat."""
    provider.script(Fault.rate_limit(), Fault.server_error(503), endpoint="embeddings")
    result = await llm.embed(["a", "b"], MODEL, dimensions=8)
    assert [attempt.status for attempt in result.attempts] == [429, 503, None]


async def test_openrouters_own_figure_is_what_it_cost(direct, provider, ledger):
    """No map lists its embedding models, and none is needed."""
    result = await direct.embed(["some words", "others"], "openrouter/openai/text-embedding-3-small", dimensions=8)
    assert result.price_source == "provider"
    assert result.cost_usd == provider.billed_usd == spent(ledger) > 0


async def test_a_batch_that_fails_for_good_stops_the_rest(direct, ledger, provider):
    """No further one is sent; the error carries what the others cost, and all of it is settled."""
    provider.script(Reply(delay=0.05), Fault.unauthorized(), endpoint="embeddings")
    with pytest.raises(AuthenticationError) as told:
        await direct.embed([f"text {n}" for n in range(20)], MODEL, batch_size=1, concurrency=2, dimensions=8)
    assert len(provider.requests) == 2
    # The one that was on its way has landed, and is charged at what it cost rather than at its bound.
    assert told.value.cost_usd == spent(ledger) == 2 * RATE
    assert [attempt.error is None for attempt in told.value.attempts] == [False, True]
    assert not ledger._holds


async def test_a_sleeping_retry_is_not_waited_for(direct, provider):
    """A batch that waits for its next try gives up as soon as another has failed for good."""
    provider.script(Fault.rate_limit(retry_after=30), Fault.unauthorized(), endpoint="embeddings")
    async with asyncio.timeout(20):
        with pytest.raises(AuthenticationError):
            await direct.embed(["a", "b"], MODEL, batch_size=1, concurrency=2)
    assert len(provider.requests) == 2


async def test_no_more_than_concurrency_at_once(direct, provider):
    """Bounded, however many batches there are."""
    flying = most = 0
    guard = threading.Lock()
    provider.script(*[Reply(delay=0.03)] * 8, endpoint="embeddings")
    wire = direct._factory()._wire("direct")
    send = wire.embed

    async def counting(request, *, timeout):
        nonlocal flying, most
        with guard:
            flying += 1
            most = max(most, flying)
        try:
            return await send(request, timeout=timeout)
        finally:
            flying -= 1

    wire.embed = counting
    await direct.embed(["text"] * 8, MODEL, batch_size=1, concurrency=3, dimensions=8)
    assert most == 3


async def test_a_budget_refuses_before_a_cent_is_spent(provider):
    """The worst case of all batches is set aside first, so that money does not run out halfway."""
    texts = ["word " * 1_000] * 4  # 5,002 tokens at most each
    enough_for_three = Budget(3 * 5_002 * RATE)
    async with LLMClient(cost_tracker=LocalLedger([enough_for_three]), breakers=Breakers()) as llm:
        with pytest.raises(BudgetExceededError):
            await llm.embed(texts, MODEL, batch_size=1)
        assert not provider.requests
        assert len((await llm.embed(texts[:3], MODEL, batch_size=1, dimensions=8)).vectors) == 3


async def test_a_paid_failure_takes_more_of_the_budget_before_it_is_repeated(provider):
    """What may have been billed is charged at its bound; the next try has to fit as well."""
    bound = 5_002 * RATE
    provider.script(Fault.reset_after_bytes(5), endpoint="embeddings")
    ledger = LocalLedger([Budget(bound + bound / 2)])
    async with LLMClient(cost_tracker=ledger, retry=FAST, breakers=Breakers()) as llm:
        with pytest.raises(BudgetExceededError) as told:
            await llm.embed("word " * 1_000, MODEL)
    assert told.value.cost_usd == spent(ledger) == bound
    assert len(provider.requests) == 1


async def test_an_unknown_price_is_refused_under_a_budget(provider):
    """As for a chat: a budget cannot hold what nobody can price."""
    async with LLMClient(cost_tracker=LocalLedger([Budget(Decimal(5))]), breakers=Breakers()) as llm:
        with pytest.raises(ConfigurationError, match="price"):
            await llm.embed("a", "openrouter/somebody/embedder")
    assert not provider.requests


async def test_cancelling_settles_what_is_on_its_way(direct, ledger, provider):
    """Every request in flight is charged at its bound, and nothing stays reserved."""
    provider.script(*[Fault.stall()] * 2, endpoint="embeddings")
    call = asyncio.create_task(direct.embed(["a", "b", "c"], MODEL, batch_size=1, concurrency=2))
    while len(provider.requests) < 2:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert spent(ledger) == 2 * 3 * RATE  # a byte and two tokens around it, each
    assert not ledger._holds


async def test_one_deadline_holds_for_all_batches(direct, ledger, provider):
    """A provider that stalls is given up on, and charged."""
    provider.script(Fault.stall(), endpoint="embeddings")
    with pytest.raises(DeadlineExceededError):
        await direct.embed("a", MODEL, timeout=0.3)
    assert spent(ledger) == 3 * RATE


async def test_a_text_beyond_the_window_is_refused_before_anything_is_sent(direct, provider):
    """And the error says which."""
    with pytest.raises(ContextWindowError, match=r"texts\[1\] has about 9,"):
        await direct.embed(["short", "word " * 9_000], MODEL)
    assert not provider.requests


async def test_the_row_says_that_it_was_an_embedding(provider, dsn):
    """One row for the call, whatever the number of requests."""
    async with CostTracker(dsn) as tracker, LLMClient(cost_tracker=tracker, breakers=Breakers()) as llm:
        result = await llm.embed(["a", "b", "c"], MODEL, batch_size=1, dimensions=8, step="index", user_id="u")
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute(
            "SELECT kind, model, step, user_id, input_tokens, cost_usd, attempts, status FROM cost_tracking"
        )
        assert await rows.fetchall() == [
            ("embedding", MODEL, "index", "u", result.usage.input_tokens, result.cost_usd, 3, "ok")
        ]


async def test_hooks_hear_of_it(provider, ledger):
    """`before` can veto it, `after` gets the vectors."""
    heard = []
    hooks = Hooks(before=lambda view: heard.append(view.messages[0]["content"]), after=heard.append)
    async with LLMClient(cost_tracker=ledger, hooks=hooks, breakers=Breakers()) as llm:
        result = await llm.embed("a bill", MODEL, dimensions=8)
    assert heard[0] == "a bill"
    assert heard[1].embeddings is result
    assert heard[1].completion is None

    def veto(_):
        raise LLMError("not today")

    async with LLMClient(cost_tracker=ledger, hooks=Hooks(before=veto), breakers=Breakers()) as llm:
        with pytest.raises(LLMError, match="not today"):
            await llm.embed("a", MODEL)
    assert len(provider.requests) == 1


async def test_another_length_in_another_batch_is_refused(direct, provider):
    """Vectors of one call can be compared, all of them."""
    wire = direct._factory()._wire("direct")
    send = wire.embed

    async def shorter(request, *, timeout):
        answer = await send(request, timeout=timeout)
        if request.texts == ("b",):
            for vector in answer.vectors:
                del vector[4:]
        return answer

    wire.embed = shorter
    with pytest.raises(InvalidAnswerError, match="4 and 1536 dimensions"):
        await direct.embed(["a", "b"], MODEL, batch_size=1)


async def test_a_failure_of_the_provider_opens_no_door_to_another_model(provider, ledger):
    """There is no chain: the one model's error comes out."""
    provider.script(*[Fault.server_error(500)] * 3, endpoint="embeddings")
    async with LLMClient(cost_tracker=ledger, retry=FAST, breakers=Breakers()) as llm:
        with pytest.raises(ProviderError):
            await llm.embed("a", MODEL)
    assert len(provider.requests) == 3


async def test_extra_arguments_go_to_the_provider(llm, provider):
    """As they are."""
    await llm.embed("a", MODEL, user="somebody")
    assert provider.requests[0].body["user"] == "somebody"


def test_without_asyncio(provider, ledger):
    """The facade has it too."""
    with LLMClient(cost_tracker=ledger, breakers=Breakers()).sync() as llm:
        assert len(llm.embed(["a", "b"], MODEL, dimensions=8).vectors) == 2


async def test_thousands_of_vectors_do_not_hold_up_the_loop(direct, provider):
    """A body of megabytes is read in a thread."""
    texts = [f"text {n}" for n in range(2_048)]
    result = await direct.embed(texts, MODEL, dimensions=256)
    assert len(result.vectors) == 2_048
    assert len(provider.requests) == 1
    assert provider.requests[0].body["encoding_format"] == "base64"


async def test_a_provider_that_limits_gives_its_wait(direct, provider):
    """Retry-After beyond the cap is not waited for; it is in the error."""
    provider.script(Fault.rate_limit(retry_after=500), endpoint="embeddings")
    with pytest.raises(RateLimitError) as told:
        await direct.embed("a", MODEL)
    assert told.value.retry_after == 500
