"""A forked child lets go of what it inherits, and its parent notices nothing."""

import textwrap

import pytest

from tests.support.programs import running

pytestmark = pytest.mark.slow

LOCKS = """
    import os, threading
    from llm_common._runtime.fork import fork_safe_lock

    lock, held = fork_safe_lock(), threading.Event()

    def hold():
        with lock:
            held.set()
            threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(timeout=10) else 1)
    print(os.waitpid(child, 0)[1], lock.acquire(timeout=0.1))
"""

SOCKETS = """
    import os, select, socket
    from llm_common._runtime.fork import new_socket

    server = socket.create_server(("127.0.0.1", 0))
    mine = new_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", server.getsockname()))
    mine.connect(server.getsockname())
    peer, _ = server.accept()
    poll = select.epoll()
    poll.register(mine.fileno(), select.EPOLLIN)
    child = os.fork()
    if child == 0:
        try:
            mine.sendall(b"goodbye")
        except BrokenPipeError:
            print("broken", flush=True)
        try:
            poll.unregister(mine.fileno())
        except FileNotFoundError:
            print("unknown", flush=True)
        mine.shutdown(socket.SHUT_RDWR)
        mine.close()
        os._exit(0)
    os.waitpid(child, 0)
    peer.setblocking(False)
    try:
        print(peer.recv(100))
    except BlockingIOError:
        print("the peer heard nothing")
    peer.send(b"hello")
    print(len(poll.poll(10)), mine.recv(100))
    for opened in (mine, peer, server, poll):
        opened.close()
"""

RESOURCES = """
    import asyncio, gc, os, sys, threading
    from llm_common._runtime.per_loop import PerLoop

    class Resource:
        def __init__(self):
            self.owner = os.getpid()
        def __del__(self):
            print("finalized", self.owner == os.getpid(), flush=True)

    async def close(resource):
        print("closed", resource.owner == os.getpid(), flush=True)

    async def get():
        return resources.get().owner == os.getpid()

    resources, ready, leave = PerLoop(Resource, close), threading.Event(), threading.Event()

    async def stay():
        await get()
        ready.set()
        await asyncio.to_thread(leave.wait)
        print("parent", await get(), flush=True)

    thread = threading.Thread(target=lambda: asyncio.run(stay()))
    thread.start()
    ready.wait()
    child = os.fork()
    if child == 0:
        print("child", asyncio.run(get()), flush=True)
        del resources
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    thread.join()
"""


def said(program: str) -> list[str]:
    with running("-X", "dev", "-W", "error", "-c", textwrap.dedent(program)) as process:
        lines = process.finish().splitlines()
        return [*lines, *process.errors().splitlines()]


def test_locks_are_free_in_the_child():
    """A thread of the parent that held a lock is not there to release it; in the parent it still holds it."""
    assert said(LOCKS) == ["0 False"]


def test_the_child_is_cut_off_from_sockets():
    """What it sends, unregisters and closes reaches neither the peer nor the epoll that it shares with its parent."""
    assert said(SOCKETS) == ["broken", "unknown", "the peer heard nothing", "1 b'hello'"]


def test_the_child_makes_resources_of_its_own():
    """It neither uses nor finalizes the parent's, also not at its exit; the parent goes on with its own."""
    ours = ["closed True", "finalized True"]
    assert said(RESOURCES) == [*ours, "child True", "parent True", *ours]
