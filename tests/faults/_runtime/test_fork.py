"""Hosts whose processes fork: Celery's prefork pool, `gunicorn --preload`, multiprocessing."""

import textwrap

import pytest

from tests.support.programs import running

pytestmark = pytest.mark.slow

#: The parent's loop lives in a thread, as that of a sync client does, and goes on after the fork.
HOST = """
    import asyncio, gc, os, sys, threading
    from llm_common import LLMClient
    from llm_common.cost_tracker import CostTracker
    from llm_common.db.database import Database
    from llm_common.llm.providers.direct import DirectWire
    from llm_common.llm.providers.litellm_wire import LiteLLMWire
    from llm_common.web_search import WebSearchClient

    WIRES = {"direct": DirectWire, "litellm": LiteLLMWire}

    dsn, ends_by, wire = sys.argv[1:]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def in_parent(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def use(number):
        async with db._transport.transaction() as execute:
            [[backend]] = await execute(b"SELECT pg_catalog.pg_backend_pid()", ())
        answer = await llm.complete("hello", "openai/gpt-4o", timeout=20)
        found = await search.search(f"question {number}")
        return backend, answer.text, len(found)

    async def close():
        await llm.aclose()
        await search.aclose()
        await db.aclose()

    db = Database.connect(dsn)
    llm = LLMClient(wire=WIRES[wire](), cost_tracker=CostTracker(db, project="fork"))
    search = WebSearchClient(None, db, timeout=20)
    first = in_parent(use(1))
    child = os.fork()
    if child == 0:
        mine = asyncio.run(use(2))
        assert mine[0] != first[0] and mine[1:] == first[1:], (mine, first)
        if ends_by == "closing":
            asyncio.run(close())
        elif ends_by == "dropping":
            del db, llm, search
            gc.collect()
        elif ends_by == "killing":
            os.kill(os.getpid(), 9)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == (9 if ends_by == "killing" else 0), status
    assert in_parent(use(3)) == first, "the parent had to connect anew"
    in_parent(close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    print("ok")
"""


@pytest.mark.parametrize(
    ("ends_by", "wire"), [("exit", "direct"), ("closing", "litellm"), ("dropping", "direct"), ("killing", "direct")]
)
@pytest.mark.usefixtures("fake_provider_env")
def test_a_child_uses_what_its_parent_has_used(dsn: str, ends_by: str, wire: str):
    """Database, model client, ledger and search work in the child, and the parent goes on with its own connections."""
    with running("-W", "error", "-c", textwrap.dedent(HOST), dsn, ends_by, wire) as host:
        assert host.finish() == "ok\n"
        assert host.errors() == ""
