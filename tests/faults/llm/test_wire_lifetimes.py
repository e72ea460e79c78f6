"""What the wires leave behind in a host process: nothing."""

import subprocess
import sys
import textwrap

import pytest

HOST = """
    import asyncio, gc, logging, os, sys, threading, time
    from llm_common.llm.wire import Route, WireRequest
    from llm_common.testing import FakeProvider

    logging.getLogger("aiohttp.server").disabled = True  # the server's own log of clients that leave
    if sys.argv[1] == "direct":
        from llm_common.llm.providers.direct import DirectWire as Wire
    else:
        from llm_common.llm.providers.litellm_wire import LiteLLMWire as Wire

    wire = Wire()

    def request(provider, name):
        url = getattr(provider, name + "_url")
        model = "claude-sonnet-5-5" if name == "anthropic" else "gpt-4o"
        route = Route(asked="m", provider=name, name=model, wire="direct", base_url=url, api_key=provider.api_key)
        return WireRequest(route=route, messages=({"role": "user", "content": "hi"},), max_tokens=50)

    async def work(provider):
        for name in sys.argv[2:]:
            wanted = request(provider, name)
            await asyncio.gather(*(wire.send(wanted, timeout=120) for _ in range(3)))
            async with wire.stream(wanted, timeout=120) as chunks:
                async for _ in chunks:
                    pass
            async with wire.stream(wanted, timeout=120) as chunks:
                async for _ in chunks:
                    break

    def sockets():
        gc.collect()
        files = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(os.readlink(file).startswith("socket:") for file in files if os.path.lexists(file))

    with FakeProvider.serve_in_thread() as provider:
        asyncio.run(work(provider))
        before = sockets()
        for _ in range(3):
            asyncio.run(work(provider))
        threads = [threading.Thread(target=lambda: asyncio.run(work(provider))) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        # The server shares this process and closes its ends on its own thread, in its own time.
        patience = time.monotonic() + 60
        while sockets() > before and time.monotonic() < patience:
            time.sleep(0.05)
        print(len(provider.requests), "requests;", sockets() - before, "sockets more")
"""


@pytest.mark.parametrize(
    "arguments", [["direct", "openai"], ["litellm", "openai", "anthropic"]], ids=lambda arguments: arguments[0]
)
def test_a_loop_per_call_leaves_neither_noise_nor_sockets(arguments: list[str]):
    """Hosts that call asyncio.run each time, in threads too, and never close anything, leak nothing."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(HOST), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # asyncio's debug mode says which steps were slow; on a busy machine some are.
    noise = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert noise == []
    assert done.stdout == f"{35 * (len(arguments) - 1)} requests; 0 sockets more\n"


def test_importing_the_wires_loads_no_sdk():
    """LiteLLM is paid for by the first call that needs it."""
    code = """
        import sys
        import llm_common.llm.providers.direct, llm_common.llm.providers.litellm_wire
        print(sorted({"litellm", "openai", "instructor", "httpx"} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
