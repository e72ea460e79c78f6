"""Workers that are killed: `python queue_worker.py DSN WORKERS CONCURRENCY LEASE_SECONDS KILL_EVERY_SECONDS`.

Pays for the imports once and forks. Every so many seconds (0: never) one of the children is killed with SIGKILL at
random, and another one takes its place. SIGTERM ends them all; then the number of kills is printed.
"""

import asyncio
import os
import random
import signal
import sys
from importlib import import_module

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.llm.breaker import Breakers
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.pipeline import Worker


async def work(dsn: str, concurrency: int, lease_seconds: float) -> None:
    async with (
        Database.connect(dsn) as db,
        LLMClient(breakers=Breakers(), timeout=60.0) as llm,
        WebSearchClient(None, db) as search,
    ):
        pipeline = AnalysisPipeline(llm, search, CostTracker(db), db, lease_seconds=lease_seconds)
        await Worker(pipeline, concurrency=concurrency).work()


def born(dsn: str, concurrency: int, lease_seconds: float) -> int:
    child = os.fork()
    if child == 0:
        asyncio.run(work(dsn, concurrency, lease_seconds))
    return child


def killed(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        raise RuntimeError("a worker ended before it was killed")


def main(dsn: str, workers: int, concurrency: int, lease_seconds: float, kill_every: float) -> None:
    for lazily_loaded in (
        "llm_common.db.psycopg",
        "llm_common.llm.providers.direct",
        "llm_common.llm.structured.schema",
    ):
        import_module(lazily_loaded)
    Catalogue().load()
    # Waited for instead of handled, so that it comes at no other moment than this.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    chance, kills = random.Random(5), 0
    children = [born(dsn, concurrency, lease_seconds) for _ in range(workers)]
    while signal.sigtimedwait({signal.SIGTERM}, kill_every or 3600.0) is None:
        at = chance.randrange(workers)
        killed(children[at])
        kills += 1
        children[at] = born(dsn, concurrency, lease_seconds)
    for child in children:
        killed(child)
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
