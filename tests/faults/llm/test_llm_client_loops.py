"""One client and one ledger for a whole process: on event loops in turn, in threads, and never closed."""

import subprocess
import sys
import textwrap

import psycopg

from llm_common.testing import FakeProvider

HOST = """
    import asyncio, sys, threading
    from llm_common.cost_tracker import CostTracker
    from llm_common.llm_client import LLMClient

    llm = LLMClient(model="openai/gpt-4o", cost_tracker=CostTracker(sys.argv[1], 100, project="host"))

    async def work(number):
        await asyncio.gather(*(llm.chat("Hi", max_tokens=50, step=f"loop {number}") for _ in range(3)))
        async with llm.stream("Hi", max_tokens=50, step=f"loop {number}") as stream:
            async for _ in stream:
                pass
        async with llm.stream("Hi", max_tokens=50, step=f"loop {number}") as stream:
            async for _ in stream:
                break

    for number in range(3):
        asyncio.run(work(number))
    threads = [threading.Thread(target=lambda n=n: asyncio.run(work(n))) for n in range(3, 7)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    asyncio.run(work(7))
"""


def test_a_client_and_its_ledger_on_loops_in_turn_and_in_threads(dsn: str, fake_provider_env: FakeProvider):
    """Eight loops, four of them at once: every call has its row, and nobody says a word about closed loops."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(HOST), dsn],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # asyncio's debug mode says which steps were slow; on a busy machine some are.
    assert [line for line in done.stderr.splitlines() if not line.startswith("Executing <")] == []
    assert done.returncode == 0
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT step, count(*), count(*) FILTER (WHERE status = 'cancelled') FROM cost_tracking GROUP BY step"
        ).fetchall()
        assert sorted(rows) == [(f"loop {number}", 5, 1) for number in range(8)]
        assert connection.execute("SELECT count(*) FROM cost_reservations").fetchone() == (0,)
        assert connection.execute("SELECT * FROM check_cost_ledger('host')").fetchall() == []
