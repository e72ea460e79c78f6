"""Calls with a profile, against real HTTP: what is sent, who wins, and what a reload changes."""

import asyncio

import pytest

from llm_common.exceptions import (
    AllModelsFailed,
    ConfigurationError,
    DeadlineExceededError,
    InvalidInputError,
    LimitReachedError,
    StreamInterruptedError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient, Request
from llm_common.profiles import Profile, Profiles
from llm_common.testing import Fault, Reply

MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-4o-mini"
CONFIG = """
[profiles.fast]
models = ["zai/glm-5.3-flash", "openai/gpt-4o-mini"]
temperature = 0.2
max_tokens = 321
extra = { top_p = 0.9, seed = 7 }

[profiles.thinking]
models = ["zai/glm-5.2", "openai/gpt-4o-mini"]

[profiles.hasty]
models = ["zai/glm-5.3"]
timeout = 0.2
"""


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "llm_common.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def client(provider, path):
    def make(**arguments):
        return LLMClient(
            cost_tracker=LocalLedger(),
            retry=RetryPolicy(max_attempts=1, base_wait=0.01),
            breakers=Breakers(),
            profiles=Profiles(path, environ={}, check_every=0),
            **arguments,
        )

    return make


@pytest.fixture
async def llm(client):
    async with client(model=MODEL) as made:
        yield made


def sent(provider, *keys):
    """The keys of the last request's body, None where it has them not."""
    return tuple(provider.requests[-1].body.get(key) for key in keys)


SAMPLING = ("model", "temperature", "max_tokens", "top_p", "seed")


async def test_a_profile_is_what_is_sent(llm, provider):
    """Model, temperature, limit and what goes through; through each of the doors."""
    chosen = ("glm-5.3-flash", 0.2, 321, 0.9, 7)
    await llm.complete("Hi", profile="fast")
    assert sent(provider, *SAMPLING) == chosen
    await llm.chat("Hi", profile="fast")
    assert sent(provider, *SAMPLING) == chosen
    await llm.chat_with_fallback("Hi", [], profile="fast")
    assert sent(provider, *SAMPLING) == chosen
    async with llm.stream("Hi", profile="fast") as stream:
        assert [delta async for delta in stream]
    assert sent(provider, *SAMPLING) == chosen
    await llm.complete_many(["Hi"], profile="fast")
    assert sent(provider, *SAMPLING) == chosen
    await llm.complete_many([Request("Hi", {"profile": "fast"})], profile="thinking")
    assert sent(provider, *SAMPLING) == chosen
    assert len(provider.requests) == 6


async def test_a_sync_client_takes_profiles_too(client, provider):
    """The same argument, without asyncio."""

    def ask():
        with client(model=MODEL).sync() as llm:
            return llm.chat("Hi", profile="fast")

    assert await asyncio.to_thread(ask)
    assert sent(provider, *SAMPLING) == ("glm-5.3-flash", 0.2, 321, 0.9, 7)


async def test_what_the_call_says_wins(llm, provider):
    """Each argument for itself; what it does not say stays the profile's."""
    await llm.complete("Hi", MODEL, profile="fast", temperature=0.9, seed=8)
    assert sent(provider, *SAMPLING) == ("glm-5.3", 0.9, 321, 0.9, 8)
    await llm.chat("Hi", profile="fast", max_tokens=5, models=[SECOND])
    assert sent(provider, *SAMPLING) == ("gpt-4o-mini", 0.2, 5, 0.9, 7)
    await llm.complete("Hi", profile="fast", temperature=0.0)
    assert sent(provider, "temperature") == (0.0,)
    async with llm.stream("Hi", MODEL, profile="fast", temperature=0.4) as stream:
        assert [delta async for delta in stream]
    assert sent(provider, *SAMPLING) == ("glm-5.3", 0.4, 321, 0.9, 7)


async def test_a_call_without_a_profile_is_what_it_was(llm, provider, path):
    """It does not even read the file."""
    path.write_text("wrong")
    await llm.chat("Hi")
    assert sent(provider, *SAMPLING) == ("glm-5.3", 0.7, None, None, None)


async def test_a_profile_without_models_asks_the_clients_own(llm, client, provider):
    """The built-in ones name none; where the client has none either, nobody is asked."""
    await llm.chat("Hi", profile="instruct")
    assert sent(provider, "model", "temperature", "max_tokens") == ("glm-5.3", 0.0, 8192)
    with pytest.raises(ConfigurationError, match=r"profile 'instruct' has none.*\[profiles.instruct\] models"):
        await client().chat("Hi", profile="instruct")
    assert len(provider.requests) == 1


async def test_a_profile_that_says_no_temperature_leaves_it_to_the_model(llm, provider):
    """Also in `chat`, whose 0.7 is for calls without a profile: models that reason often refuse it."""
    await llm.chat("Hi", profile="thinking")
    assert sent(provider, "temperature", "reasoning_effort") == (None, "high")


async def test_a_chain_of_different_models_gets_what_each_is_known_to_take(llm, provider):
    """The effort goes to the one that reasons, not to its fallback that does not; a call's own goes to both."""
    provider.script(Fault.server_error(), "ok")
    await llm.complete("Hi", profile="thinking")
    assert [request.body.get("reasoning_effort") for request in provider.requests] == ["high", None]
    provider.script(Fault.server_error(), "ok")
    await llm.complete("Hi", profile="thinking", reasoning_effort="low")
    assert [request.body.get("reasoning_effort") for request in provider.requests[2:]] == ["low", "low"]


async def test_a_profiles_temperature_is_left_out_where_it_is_refused(llm, provider):
    """Claude 5.5 takes none, and being the fallback in a chain must not break it."""
    profile = Profile(name="mixed", models=(MODEL, "anthropic/claude-sonnet-5-5"), temperature=0.2, max_tokens=50)
    provider.script(Fault.server_error(), "ok")
    await llm.complete("Hi", profile=profile)
    assert [request.body.get("temperature") for request in provider.requests] == [0.2, None]


async def test_the_chain_of_a_profile_falls_back(llm, provider):
    """In its order, and with every attempt told in the end."""
    provider.script(Fault.server_error(), "second")
    assert await llm.chat("Hi", profile="fast") == "second"
    assert [request.body["model"] for request in provider.requests] == ["glm-5.3-flash", "gpt-4o-mini"]
    provider.script(Fault.server_error(), Fault.server_error())
    with pytest.raises(AllModelsFailed, match=r"glm-5\.3-flash.*gpt-4o-mini"):
        await llm.chat("Hi", profile="fast")


async def test_the_time_of_a_profile_bounds_the_call(llm, provider):
    """The profile's wins over the client's, the call's own over both."""
    provider.script(Fault.stall(), Reply(text="late", delay=0.4))
    with pytest.raises(DeadlineExceededError, match=r"within 0\.(1|2)"):
        await llm.chat("Hi", profile="hasty")
    assert await llm.chat("Hi", profile="hasty", timeout=30) == "late"


async def test_the_patience_of_a_profile_bounds_a_stream(llm, provider):
    """For the first piece and between two; the call's own wins."""
    profile = Profile(name="hasty", models=(MODEL,), first_token_timeout=0.2, stall_timeout=0.3)

    async def read(**own):
        async with llm.stream("Hi", profile=profile, **own) as stream:
            return "".join([delta.text async for delta in stream])

    provider.script(Fault.stall(), Fault.stall_mid_stream(), Reply(text="one two", delay=0.5))
    with pytest.raises(DeadlineExceededError, match=r"no first token within 0\.2 seconds"):
        await read()
    with pytest.raises(StreamInterruptedError, match=r"stalled within 0\.3 seconds"):
        await read()
    assert await read(first_token_timeout=30) == "one two"


async def test_a_reload_while_calls_run(llm, provider, path):
    """Calls in flight end as they began, retries of theirs included; the next ones take what is new."""
    provider.script(Reply(text="slow", delay=0.5), Fault.server_error().delayed(0.5))
    one = asyncio.create_task(llm.complete("one", profile="fast"))
    await provider.arrived(1)
    two = asyncio.create_task(llm.complete("two", profile="fast"))
    await provider.arrived(2)
    path.write_text(CONFIG.replace("glm-5.3-flash", "glm-5.2").replace("321", "123").replace("gpt-4o-mini", "gpt-4o"))
    llm.profiles.reload()
    await llm.complete("three", profile="fast")
    await asyncio.gather(one, two)
    bodies = [request.body for request in provider.requests]
    asked = sorted((body["messages"][-1]["content"], body["model"], body["max_tokens"]) for body in bodies)
    assert asked == [
        ("one", "glm-5.3-flash", 321),
        ("three", "glm-5.2", 123),
        ("two", "glm-5.3-flash", 321),
        ("two", "gpt-4o-mini", 321),
    ]


async def test_a_changed_file_is_used_without_a_word(llm, provider, path):
    """And one that is wrong is not."""
    await llm.chat("Hi", profile="fast")
    path.write_text(CONFIG.replace("321", "99"))
    await llm.chat("Hi", profile="fast")
    path.write_text(CONFIG.replace("321", "none"))
    await llm.chat("Hi", profile="fast")
    assert [request.body["max_tokens"] for request in provider.requests] == [321, 99, 99]


async def test_an_unknown_profile_is_refused_before_anything_is_sent(llm, provider):
    """With the nearest one there is."""
    with pytest.raises(InvalidInputError, match="Did you mean fast"):
        await llm.chat("Hi", profile="fats")
    with pytest.raises(InvalidInputError, match="Did you mean fast"):
        llm.stream("Hi", profile="fats")
    with pytest.raises(InvalidInputError, match="Did you mean fast"):
        await llm.check("Hi", profile="fats")
    await llm.check("Hi", profile="fast")
    assert provider.requests == []


async def test_what_a_profile_sends_along_is_not_changed_by_a_call(llm, provider):
    """Whatever a wire does to its arguments, the next call gets them as they were written."""
    profile = Profile(
        name="mine", models=("anthropic/claude-sonnet-5-5",), max_tokens=9, extra={"metadata": {"user_id": "u"}}
    )
    for _ in range(2):
        await llm.complete("Hi", profile=profile)
    assert [request.body["metadata"] for request in provider.requests] == [{"user_id": "u"}] * 2
    assert profile.extra == {"metadata": {"user_id": "u"}}


async def test_the_default_profiles_come_from_the_environments_file(provider, path, monkeypatch):
    """A client that is told nothing finds the file, and an environment variable wins over it."""
    monkeypatch.setenv("LLM_COMMON_CONFIG", str(path))
    monkeypatch.setenv("LLM_COMMON_PROFILES__FAST__MAX_TOKENS", "55")
    async with LLMClient(cost_tracker=LocalLedger()) as llm:
        await llm.chat("Hi", profile="fast")
    assert sent(provider, "model", "max_tokens") == ("glm-5.3-flash", 55)


async def test_the_concurrency_of_a_profile_holds_for_all_its_calls(llm, provider):
    """Of six stalled calls two are sent; another profile's call is not held up by them."""
    narrow = Profile(name="narrow", models=(MODEL,), concurrency=2)
    provider.script(*[Fault.stall()] * 2, "ok")
    tasks = [asyncio.create_task(llm.complete("Hi", profile=narrow)) for _ in range(6)]
    await provider.arrived(2)
    assert await llm.chat("Hi", profile="fast") == "ok"
    await asyncio.sleep(0.1)
    assert len(provider.requests) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_waiting_for_a_profiles_turn_counts_against_the_deadline(llm, provider):
    """Whose turn does not come in time is told so, and nothing is sent."""
    narrow = Profile(name="narrow", models=(MODEL,), concurrency=1)
    provider.script(Fault.stall())
    first = asyncio.create_task(llm.complete("Hi", profile=narrow))
    await provider.arrived(1)
    with pytest.raises(LimitReachedError, match="concurrency=1 of profile narrow"):
        await llm.complete("Hi", profile=narrow, timeout=0.2)
    assert len(provider.requests) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
