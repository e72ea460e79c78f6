"""Processes that are killed in the middle of their calls: `python doomed_callers.py DSN KILLS AT_ONCE SEED`.

Pays for the imports once and forks; each child calls and streams through `LLMClient` and `CostTracker` for ever, until
the parent kills it at a random moment with SIGKILL: every other one at any moment from its birth on, the rest once an
answer has come, so that they are in the middle of calls on a slow machine too. Every prompt is a fresh id, which is
also the call's tag.
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


async def _call_for_ever(llm: LLMClient, chance: random.Random, answered: int) -> None:
    while True:
        call_id = str(uuid4())
        if chance.random() < 0.3:
            async with llm.stream(call_id, max_tokens=50, tags={"call": call_id}) as stream:
                async for _ in stream:
                    pass
        else:
            await llm.chat(call_id, max_tokens=50, tags={"call": call_id})
        os.write(answered, b".")


async def _live(dsn: str, seed: int, answered: int) -> None:
    async with (
        # Half of them are bound by no budget: what they paid must be in the books all the same.
        CostTracker(dsn, "1000" if seed % 2 else None, project="p") as tracker,
        LLMClient(cost_tracker=tracker, model=_MODEL, breakers=Breakers()) as llm,
    ):
        chances = (random.Random(f"{seed} {task}") for task in range(_TASKS))
        await asyncio.gather(*(_call_for_ever(llm, chance, answered) for chance in chances))


def _born(dsn: str, seed: int) -> tuple[int, int]:
    """The child, and the pipe that it writes to with each answer."""
    heard, answered = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(_live(dsn, seed, answered))
    os.close(answered)
    return child, heard


def _die(child: int, heard: int, *, after_an_answer: bool) -> None:
    if after_an_answer and not os.read(heard, 1):
        raise RuntimeError("a caller ended before it had an answer")
    os.close(heard)
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        raise RuntimeError("a caller ended before it was killed")


def main(dsn: str, kills: int, at_once: int, seed: int) -> None:
    for lazily_loaded in ("llm_common.db.psycopg", "llm_common.llm.providers.direct", "llm_common.llm.streaming"):
        import_module(lazily_loaded)
    Catalogue().load()
    chance = random.Random(seed)
    # When each one dies at the earliest, its number, and who it is.
    alive: list[tuple[float, int, int, int]] = []
    for number in range(kills + at_once):
        if number >= at_once:
            dies_at, born, child, heard = alive.pop(0)
            time.sleep(max(0.0, dies_at - time.monotonic()))
            _die(child, heard, after_an_answer=born % 2 == 0)
        if number < kills:
            alive.append((time.monotonic() + chance.random() * _LONGEST_LIFE, number, *_born(dsn, number)))
            alive.sort()


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))
