"""A worker of the queue whose requests are limited: `python limited_workers.py DSN CONCURRENCY REQUESTS_PER_MINUTE`.

Says "ready", waits for a line, works, and stops at the next line.
"""

import asyncio
import os
import sys

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.llm.breaker import Breakers
from llm_common.llm_client import Limits
from llm_common.pipeline import Worker
from llm_common.shared_limits import SharedLimits


async def main(dsn: str, concurrency: int, requests_per_minute: int) -> None:
    limits = {"openrouter": Limits(requests_per_minute=requests_per_minute)}
    async with (
        Database.connect(dsn) as db,
        SharedLimits(db) as limiter,
        # Less patience than the limit needs at times: some waiting is done in the queue.
        LLMClient(breakers=Breakers(), limits=limits, limiter=limiter, timeout=5.0) as llm,
        WebSearchClient(None, db) as search,
    ):
        worker = Worker(AnalysisPipeline(llm, search, CostTracker(db), db), concurrency=concurrency)
        os.write(1, b"ready\n")
        await asyncio.to_thread(sys.stdin.readline)
        working = asyncio.ensure_future(worker.work())
        await asyncio.to_thread(sys.stdin.readline)
        worker.stop()
        await working


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
