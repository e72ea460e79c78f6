"""`LLMClient.sync()`: the same client for code without asyncio."""

import asyncio
import gc
import inspect
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from llm_common.exceptions import InvalidInputError, ProviderError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import Hooks, LLMClient
from llm_common.testing import Fault, Reply

MODEL = "zai/glm-5.3"


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture
def llm(provider, ledger):
    with LLMClient(
        cost_tracker=ledger, model=MODEL, retry=RetryPolicy(base_wait=0.01), breakers=Breakers()
    ).sync() as client:
        yield client


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "llm-common"]


def test_the_methods_wait_and_answer(llm, provider, ledger):
    """Text, completion, fallback, many and a stream, without a loop in sight."""
    provider.script("one", "two", "three", "four", "five", Reply(text="six seven", pieces=("six ", "seven")))
    assert llm.chat("Hi") == "one"
    assert llm.complete("Hi").text == "two"
    assert llm.chat_with_fallback("Hi", [MODEL]) == "three"
    assert [result.answer().text for result in llm.complete_many(["a", "b"], concurrency=1)] == ["four", "five"]
    with llm.stream("Hi") as stream:
        assert [delta.text for delta in stream] == ["six ", "seven"]
    assert stream.completion.text == "six seven"
    llm.check("Hi")
    assert ledger.spent_today_nano > 0 == len(ledger._holds)


def test_errors_come_as_they_are(llm, provider):
    """With their attempts, as from the async client."""
    provider.script(*[Fault.server_error(500)] * 3)
    with pytest.raises(ProviderError) as caught:
        llm.chat("Hi")
    assert len(caught.value.attempts) == 3


def test_signatures_are_those_of_the_async_client(llm):
    """Nothing is copied by hand, so nothing can differ."""
    for name in ("chat", "chat_with_fallback", "complete", "complete_many", "check", "stream"):
        assert inspect.signature(getattr(type(llm), name)) == inspect.signature(getattr(LLMClient, name))


def test_many_threads_share_one_client(llm, provider):
    """And one thread of its own."""
    provider.script(*[Reply(text="Yes.", delay=0.02)] * 40)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: llm.chat("Hi"), range(40))) == ["Yes."] * 40
    assert len(threads()) == 1


async def test_it_works_where_a_loop_runs(provider, ledger):
    """A sync function deep inside an async host."""
    with LLMClient(cost_tracker=ledger, model=MODEL).sync() as llm:
        provider.script("Yes.")
        assert llm.chat("Hi") == "Yes."
    assert asyncio.get_running_loop().is_running()


def test_a_stream_that_is_left_is_closed_and_charged(llm, provider, ledger):
    """As with the async one."""
    provider.script(Reply(text="word " * 200, pieces=("word ",) * 200, seconds_per_chunk=0.02))
    with llm.stream("Count!") as stream:
        for _ in stream:
            break
    asyncio.run(provider.settled())
    assert provider.requests[0].client_left
    assert ledger.spent_today_nano > 0 == len(ledger._holds)


def test_closing_cancels_and_settles_what_is_under_way(llm, provider, ledger):
    """Another thread's call ends as cancelled, and is charged; afterwards the thread is gone."""
    provider.script(Fault.stall())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(llm.chat, "Hi", max_tokens=10)
        asyncio.run(provider.arrived())
        llm.close()
        with pytest.raises(CancelledError):
            call.result()
    assert threads() == []
    assert ledger.spent_today_nano > 0 == len(ledger._holds)


def test_ctrl_c_cancels_and_settles(llm, provider, ledger):
    """The interrupt is raised after the call was settled."""
    provider.script(Fault.stall())

    def interrupt():
        asyncio.run(provider.arrived())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    user = threading.Thread(target=interrupt)
    user.start()
    with pytest.raises(KeyboardInterrupt):
        llm.chat("Hi", max_tokens=10)
    user.join()
    assert ledger.spent_today_nano > 0 == len(ledger._holds)


def test_a_dropped_client_leaves_no_thread(provider, ledger):
    """Whoever forgets `close()` leaks nothing."""
    llm = LLMClient(cost_tracker=ledger, model=MODEL).sync()
    llm.chat("Hi")
    assert len(threads()) == 1
    del llm
    gc.collect()
    until = time.monotonic() + 5
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert threads() == []


def test_a_blocking_call_in_a_hook_is_refused(provider, ledger):
    """It would wait for itself for ever."""
    told = []

    def before(call):
        with pytest.raises(InvalidInputError, match="own event loop") as caught:
            llm.chat("Hi again")
        told.append(caught.value)

    with LLMClient(cost_tracker=ledger, model=MODEL, hooks=Hooks(before=before)).sync() as llm:
        llm.chat("Hi")
    assert len(told) == len(provider.requests) == 1


def test_the_interpreters_end_settles_what_is_under_way(provider):
    """A script that never closes its client: its last call is cancelled and settled."""
    program = f"""
import threading
from llm_common.llm_client import Hooks, LLMClient
from llm_common.ledger.local import LocalLedger

begun = threading.Event()
ledger = LocalLedger()
hooks = Hooks(
    before=lambda call: begun.set(),
    after=lambda end: print(type(end.error).__name__, len(ledger._holds), flush=True),
)
llm = LLMClient(model={MODEL!r}, cost_tracker=ledger, hooks=hooks).sync()
threading.Thread(target=llm.chat, args=("Hi",), daemon=True).start()
begun.wait()
"""
    provider.script(Fault.stall())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "CancelledError 0\n"
