"""Processes that are killed in the middle of their calls: `python doomed_callers.py DSN KILLS AT_ONCE SEED`.

Pays for the imports once and forks; each child calls and streams through `LLMClient` and `CostTracker` for ever, until
the parent kills it at a random moment with SIGKILL. Every prompt is a fresh id, which is also the call's tag.
"""

import asyncio
import os
import random
import signal
import sys
import time
from importlib import import_module
from uuid import uuid4

from llm_common.cost_tracker import CostTracker
from llm_common.llm.breaker import Breakers
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm_client import LLMClient

_MODEL = "zai/glm-5.3"
_TASKS = 4
_LONGEST_LIFE = 0.4


async def _call_for_ever(llm: LLMClient, chance: random.Random) -> None:
    while True:
        call_id = str(uuid4())
        if chance.random() < 0.3:
            async with llm.stream(call_id, max_tokens=50, tags={"call": call_id}) as stream:
                async for _ in stream:
                    pass
        else:
            await llm.chat(call_id, max_tokens=50, tags={"call": call_id})


async def _live(dsn: str, seed: int) -> None:
    async with (
        # Half of them are bound by no budget: what they paid must be in the books all the same.
        CostTracker(dsn, "1000" if seed % 2 else None, project="p") as tracker,
        LLMClient(cost_tracker=tracker, model=_MODEL, breakers=Breakers()) as llm,
    ):
        await asyncio.gather(*(_call_for_ever(llm, random.Random(f"{seed} {task}")) for task in range(_TASKS)))


def _born(dsn: str, seed: int) -> int:
    child = os.fork()
    if child == 0:
        asyncio.run(_live(dsn, seed))
    return child


def main(dsn: str, kills: int, at_once: int, seed: int) -> None:
    for lazily_loaded in ("llm_common.db.psycopg", "llm_common.llm.providers.direct", "llm_common.llm.streaming"):
        import_module(lazily_loaded)
    Catalogue().load()
    chance = random.Random(seed)
    # When each one dies, and who it is.
    alive = [(0.0, 0)] * at_once
    for number in range(kills + at_once):
        dies_at, child = alive.pop(0)
        if child:
            time.sleep(max(0.0, dies_at - time.monotonic()))
            os.kill(child, signal.SIGKILL)
            if os.waitpid(child, 0)[1] != signal.SIGKILL:
                raise RuntimeError("a caller ended before it was killed")
        if number < kills:
            alive.append((time.monotonic() + chance.random() * _LONGEST_LIFE, _born(dsn, number)))
            alive.sort()


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
