"""One resource per event loop."""

import asyncio
import threading
import weakref

from llm_common._runtime.per_loop import PerLoop


class Resource:
    """Something that belongs to a loop, and holds it as asyncio's locks do."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()


async def get(resources: PerLoop[Resource]) -> Resource:
    return resources.get()


async def test_a_loop_has_one_resource() -> None:
    """Every task of a loop gets the same one; after `pop`, a new one."""
    resources = PerLoop(Resource)
    first, second = await asyncio.gather(get(resources), get(resources))
    assert first is second
    assert resources.pop() is first
    assert resources.pop() is None
    assert resources.get() is not first


def test_each_loop_has_its_own() -> None:
    """Loops in threads and loops one after another do not share."""
    resources = PerLoop(Resource)
    found: list[Resource] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(get(resources)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(asyncio.run(get(resources)))
    assert len({id(resource) for resource in found}) == 9


def test_resources_of_closed_loops_are_let_go() -> None:
    """A host that calls `asyncio.run` for each request does not pile up what belonged to the loops of old."""
    resources = PerLoop(Resource)
    old = [weakref.ref(asyncio.run(get(resources))) for _ in range(3)]

    async def use_another() -> None:
        resources.get()

    asyncio.run(use_another())
    assert [reference() for reference in old] == [None, None, None]
