"""What a search client leaves behind in a host that never closes it: nothing."""

import textwrap

import pytest

from tests.support.programs import running

pytestmark = pytest.mark.slow

HOST = """
    import asyncio, gc, os, threading
    from llm_common.ledger.local import LocalLedger
    from llm_common.web_search import WebSearchClient

    search = WebSearchClient(cost_tracker=LocalLedger())

    async def work(number):
        await asyncio.gather(*(search.search(f"question {number} {one}") for one in range(3)))

    def sockets():
        gc.collect()
        files = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(os.readlink(file).startswith("socket:") for file in files if os.path.lexists(file))

    before = sockets()
    for number in range(3):
        asyncio.run(work(number))
    threads = [threading.Thread(target=lambda: asyncio.run(work(threading.get_ident()))) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(sockets() - before, "sockets more")
"""


@pytest.mark.usefixtures("fake_provider_env")
def test_a_loop_per_search_leaves_neither_noise_nor_sockets():
    """Hosts that call asyncio.run for each request, in threads too, leak no session."""
    with running("-X", "dev", "-W", "error", "-c", textwrap.dedent(HOST)) as host:
        assert host.finish() == "0 sockets more\n"
        noise = [line for line in host.errors().splitlines() if not line.startswith("Executing <")]
        assert noise == []
