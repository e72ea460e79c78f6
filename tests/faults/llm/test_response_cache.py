"""The response cache against real HTTP: what is found again, by whom, at what cost, and what comes of faults."""

import asyncio
import logging
from dataclasses import replace
from decimal import Decimal

import psycopg
import pytest
from pydantic import BaseModel, field_validator

from llm_common.cost_tracker import CostTracker
from llm_common.db import Database
from llm_common.exceptions import AuthenticationError, BudgetExceededError, ConfigurationError, DeadlineExceededError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.hooks import Hooks
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget, Usage
from llm_common.response_cache import MemoryResponseCache, PostgresResponseCache
from llm_common.testing import Fault, Reply
from tests.support.onlooker import pages

FAST = RetryPolicy(base_wait=0.01)
MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-6-luna"
USAGE = Usage(input_tokens=100, output_tokens=50)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


class Verdict(BaseModel):
    guilty: bool


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture(params=["memory", "postgres"])
def where(request):
    """None for this process; a database is made only where one is wanted."""
    return request.getfixturevalue("dsn") if request.param == "postgres" else None


@pytest.fixture
async def cache(where):
    if where is None:
        yield MemoryResponseCache()
        return
    store = PostgresResponseCache(where)
    yield store
    await store.aclose()


def client(cache, ledger, **options):
    return LLMClient(cost_tracker=ledger, model=MODEL, retry=FAST, breakers=Breakers(), response_cache=cache, **options)


@pytest.fixture
async def llm(provider, ledger, cache):
    async with client(cache, ledger) as one:
        yield one


async def test_the_same_question_is_asked_once(llm, ledger, provider):
    """The second answer costs nothing and says so; what the first took is shown apart."""
    provider.script(Reply(text="Yes.", usage=USAGE))
    first = await llm.complete("Is it?")
    spent = ledger.spent_today_nano
    again = await llm.complete("Is it?")
    assert (first.from_cache, again.from_cache) == (False, True)
    assert (again.text, again.finish_reason, again.answered_by) == (first.text, "stop", first.answered_by)
    assert (again.cost_usd, again.usage, again.cached_usage) == (Decimal(0), Usage(), USAGE)
    assert ledger.spent_today_nano == spent > 0
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": "Is it??"},
        {"model": SECOND},
        {"temperature": 0.1},
        {"max_tokens": 700},
        {"tools": [TOOL]},
        {"response_model": Verdict},
        {"seed": 5},
        {"user_id": "somebody"},
        {"cache": False},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_another_question_is_another(llm, provider, changed):
    """Whatever decides what the model may say, and who may see it."""
    provider.script("one", {"guilty": True})
    await llm.complete("Is it?")
    again = await llm.complete(**{"messages": "Is it?", **changed})
    assert not again.from_cache
    assert len(provider.requests) == 2


async def test_users_and_projects_share_nothing(provider, ledger, cache):
    """One's answer is never given to another."""
    async with client(cache, ledger, project="a") as a, client(cache, ledger, project="b") as b:
        for one, user in ((a, "u"), (a, "v"), (a, None), (b, "u")):
            assert not (await one.complete("Is it?", user_id=user)).from_cache
        assert (await a.complete("Is it?", user_id="u")).from_cache


@pytest.mark.parametrize(
    "unfit", [Reply(text="half", finish_reason="length"), Fault.content_filter_finish()], ids=["length", "filter"]
)
async def test_only_whole_answers_are_kept(llm, provider, unfit):
    """What was cut by a limit or by safety rules is asked for again."""
    provider.script(unfit, "whole")
    await llm.complete("Is it?")
    again = await llm.complete("Is it?")
    assert (again.text, again.from_cache) == ("whole", False)


async def test_a_failure_is_not_kept(llm, provider):
    """The next call asks."""
    provider.script(Fault.unauthorized(), "Yes.")
    with pytest.raises(AuthenticationError):
        await llm.complete("Is it?")
    assert (await llm.complete("Is it?")).text == "Yes."


async def test_tool_calls_are_kept(llm, provider):
    """Ids and arguments as the model wrote them."""
    from llm_common.models import ToolCall

    provider.script(Reply(tool_calls=(ToolCall("c1", "f", '{"a": 1}'),)))
    first = await llm.complete("Call it", tools=[TOOL])
    again = await llm.complete("Call it", tools=[TOOL])
    assert again.from_cache
    assert again.tool_calls == first.tool_calls


async def test_a_hit_is_validated_again(llm, provider):
    """By what this call validates with; what does not fit is asked for anew."""

    def verdict(*, refuses: bool):
        class Verdict(BaseModel):
            guilty: bool

            @field_validator("guilty")
            @classmethod
            def agree(cls, value: bool) -> bool:
                if refuses and value:
                    raise ValueError("nobody is")
                return value

        return Verdict

    provider.script({"guilty": True}, {"guilty": False})
    mild, strict = verdict(refuses=False), verdict(refuses=True)
    await llm.complete("Judge!", response_model=mild)
    hit = await llm.complete("Judge!", response_model=mild)
    assert hit.from_cache
    assert hit.parsed == mild(guilty=True)
    asked = await llm.complete("Judge!", response_model=strict)
    assert not asked.from_cache
    assert asked.parsed.guilty is False


async def test_a_stand_ins_answer_is_not_the_first_models(llm, provider):
    """A chain looks for its first model's answer; what the second said is found when the second is asked."""
    provider.script(*[Fault.server_error(500)] * 3, "from the second", "from the first")
    chain = [MODEL, SECOND]
    assert (await llm.complete("Is it?", models=chain)).text == "from the second"
    assert (await llm.complete("Is it?", models=chain)).text == "from the first"
    hit = await llm.complete("Is it?", SECOND)
    assert (hit.text, hit.from_cache) == ("from the second", True)


async def test_a_crowd_is_one_request(llm, ledger, provider):
    """Equal calls at once wait for the first, whose cancellation takes nobody along."""
    provider.script(Reply(text="Yes.", delay=3))
    leader = asyncio.create_task(llm.complete("Is it?"))
    while not provider.requests:
        await asyncio.sleep(0.005)
    crowd = [asyncio.create_task(llm.complete("Is it?")) for _ in range(20)]
    here = llm._factory()._cached._flights._by_loop.get()
    while sum(here.waiting.values()) < 21:
        await asyncio.sleep(0.005)
    leader.cancel()
    answers = await asyncio.gather(*crowd)
    assert {(answer.text, answer.from_cache) for answer in answers} == {("Yes.", True)}
    assert len(provider.requests) == 1
    assert not ledger._holds


async def test_a_call_that_nobody_waits_for_is_cancelled_and_settled(llm, ledger, provider):
    """As without a cache: when the last caller is out, its money is accounted for."""
    provider.script(Fault.stall())
    call = asyncio.create_task(llm.complete("Is it?"))
    while not provider.requests:
        await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not ledger._holds
    assert ledger.spent_today_nano > 0


async def test_a_followers_time_is_its_own(llm, provider):
    """It waits no longer than it may; the call that it waited for goes on."""
    provider.script(Reply(text="Yes.", delay=0.5))
    leader = asyncio.create_task(llm.complete("Is it?"))
    while not provider.requests:
        await asyncio.sleep(0.005)
    with pytest.raises(DeadlineExceededError):
        await llm.complete("Is it?", timeout=0.05)
    assert (await leader).text == "Yes."


async def test_a_shared_failure_is_paid_once(llm, provider):
    """Those who waited get the error, without the cost that is in the first one's."""
    provider.script(replace(Fault.unauthorized(), delay=3))
    outcomes = await asyncio.gather(*(llm.complete("Is it?") for _ in range(5)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {AuthenticationError}
    assert sorted(len(outcome.attempts) for outcome in outcomes) == [0, 0, 0, 0, 1]


async def test_a_hit_reserves_nothing(provider, cache):
    """It is served where the budget would refuse the question."""
    async with client(cache, LocalLedger()) as rich:
        await rich.complete("Is it?", max_tokens=100)
    async with client(cache, LocalLedger([Budget(Decimal("0.000001"))])) as poor:
        assert (await poor.complete("Is it?", max_tokens=100)).from_cache
        with pytest.raises(BudgetExceededError):
            await poor.complete("Is it not?", max_tokens=100)


async def test_hits_are_counted_apart(provider, dsn):
    """A row of kind `cache_hit` at cost 0; its tokens are in the row's buckets and in no sum."""
    provider.script(Reply(text="Yes.", usage=USAGE))
    async with CostTracker(dsn) as tracker, client(MemoryResponseCache(), tracker) as llm:
        await llm.complete("Is it?", step="ask", user_id="u")
        await llm.complete("Is it?", step="ask", user_id="u", tags={"a": "b"})
        (group,) = await tracker.summarize("2020-01-01", "2099-01-01")
    assert (group.calls, group.cache_hits, group.tokens) == (2, 1, USAGE.total_tokens)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute(
            "SELECT cost_usd, tokens_used, input_tokens, output_tokens, step, user_id, tags, attempts"
            " FROM cost_tracking WHERE kind = 'cache_hit'"
        )
        assert await rows.fetchall() == [(Decimal(0), 0, 100, 50, "ask", "u", {"a": "b"}, 0)]
        proof = await connection.execute("SELECT * FROM check_cost_ledger('default')")
        assert await proof.fetchall() == []


async def test_hooks_hear_of_a_hit(provider, ledger, cache):
    """`before` may veto it, `after` gets it."""
    heard = []
    hooks = Hooks(before=lambda _: heard.append("before"), after=lambda end: heard.append(end.completion.from_cache))
    async with client(cache, ledger, hooks=hooks) as llm:
        await llm.complete("Is it?")
        await llm.complete("Is it?")
    assert heard == ["before", False, "before", True]


async def test_a_cache_that_fails_fails_no_call(provider, ledger, empty_dsn, caplog):
    """A database without our tables, or without a server: one line in the log, and the model is asked."""
    caplog.set_level(logging.WARNING)
    for dsn in (empty_dsn, "postgresql://nobody@127.0.0.1:1/none"):
        caplog.clear()
        store = PostgresResponseCache(dsn)
        async with client(store, ledger) as llm:
            for _ in range(3):
                assert not (await llm.complete("Is it?")).from_cache
        assert len([record for record in caplog.records if "response cache" in record.getMessage()]) == 1
        await store.aclose()


async def test_a_cache_of_the_hosts_may_raise_anything(provider, ledger, caplog):
    """It is logged, and the answer is handed out."""

    class Broken:
        async def get(self, key):
            raise RuntimeError("no")

        async def put(self, key, owner, answer, *, ticket):
            raise RuntimeError("no")

    async with client(Broken(), ledger) as llm:
        assert (await llm.complete("Is it?")).text
    assert "the model is asked" in caplog.text


async def test_forgetting_deletes_a_users_answers(llm, cache, provider):
    """Theirs, and nobody else's."""
    for user in ("u", "v"):
        await llm.complete("Is it?", user_id=user)
    assert await cache.forget("default", "u") == 1
    assert not (await llm.complete("Is it?", user_id="u")).from_cache
    assert (await llm.complete("Is it?", user_id="v")).from_cache
    assert await cache.forget("default") == 2


async def test_what_was_asked_before_a_deletion_is_not_stored_after_it(llm, cache, provider):
    """The answer comes, and is not kept."""
    provider.script(Reply(text="Yes.", delay=0.2))
    call = asyncio.create_task(llm.complete("Is it?", user_id="u"))
    while not provider.requests:
        await asyncio.sleep(0.005)
    await cache.forget("default", "u")
    assert (await call).text == "Yes."
    assert not (await llm.complete("Is it?", user_id="u")).from_cache


async def test_postgres_keeps_no_prompt(provider, ledger, dsn):
    """Nor a key: a request is found by its hash."""
    secret = "a very secret question of somebody's"
    store = PostgresResponseCache(dsn)
    provider.script("Yes.")
    async with client(store, ledger) as llm:
        await llm.complete(secret)
    await store.aclose()
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute("SELECT c::text FROM llm_response_cache c")
        ((row,),) = await rows.fetchall()
    assert secret not in row
    assert provider.api_key not in row


async def test_an_answer_lives_for_its_time(provider, ledger, dsn):
    """Then it is asked for again, and the cleanup deletes it, so many at a time."""
    store = PostgresResponseCache(dsn, ttl=0.05)
    async with client(store, ledger) as llm:
        for question in ("a", "b", "c"):
            await llm.complete(question)
        await asyncio.sleep(0.1)
        assert not (await llm.complete("a", cache=None)).from_cache
        await asyncio.sleep(0.1)
    assert await store.cleanup(max_rows=2) == 2
    assert await store.cleanup(max_rows=2) == 1
    await store.aclose()


async def test_what_is_fresh_costs_the_cleanup_nothing(dsn):
    """It stops at the first answer that has not expired, and a look or a deletion reads what it is about."""
    fill = """INSERT INTO llm_response_cache
        SELECT md5(n::text), 'p', 'u' || n % 500, '{}', now(), now() + interval '1 h'
          FROM generate_series(1, 20000) n"""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(fill)
        connection.execute("VACUUM (ANALYZE) llm_response_cache")
    assert await pages(dsn, "cleanup_response_cache()") < 20
    assert await pages(dsn, "response_cache_get(md5('7'))") < 20
    entry = """'{"project": "p", "user_id": "u7", "answer": {}}'"""
    assert await pages(dsn, f"response_cache_put('new', {entry}, 60, '2026-11-27')") < 40
    assert await pages(dsn, "response_cache_forget('p', 'u8')") < 40


async def test_caching_has_to_be_asked_for(provider, ledger):
    """A client without a cache asks each time, and `cache=True` is a mistake there."""
    async with client(None, ledger) as llm:
        assert not (await llm.complete("Is it?")).from_cache
        assert not (await llm.complete("Is it?")).from_cache
        with pytest.raises(ConfigurationError, match="response_cache"):
            await llm.complete("Is it?", cache=True)


async def test_a_stored_answer_that_cannot_be_read_is_asked_for(provider, ledger, dsn):
    """By a version that comes later, say."""
    store = PostgresResponseCache(dsn)
    async with client(store, ledger) as llm:
        await llm.complete("Is it?")
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("UPDATE llm_response_cache SET answer = '{}'")
        assert not (await llm.complete("Is it?")).from_cache
        assert (await llm.complete("Is it?")).from_cache
    await store.aclose()


async def test_two_clients_share_what_postgres_has(provider, ledger, dsn):
    """Another process finds it too."""
    async with Database.connect(dsn) as one, Database.connect(dsn) as two:
        async with client(PostgresResponseCache(one), ledger) as llm:
            await llm.complete("Is it?")
        async with client(PostgresResponseCache(two), ledger) as llm:
            assert (await llm.complete("Is it?")).from_cache
    assert len(provider.requests) == 1
