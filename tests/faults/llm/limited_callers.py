"""One process that calls as fast as it can: `python limited_callers.py DSN TASKS CALLS REQUESTS_PER_MINUTE`.

Says "ready", waits for a line, calls, and prints how many calls were answered and how many were not in time. Without a
DSN ("-") nothing limits it.
"""

import asyncio
import os
import sys
from collections import Counter

from llm_common.exceptions import DeadlineExceededError, LimitReachedError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm_client import Limits, LLMClient
from llm_common.shared_limits import SharedLimits


async def main(dsn: str, tasks: int, calls: int, requests_per_minute: int) -> None:
    limiter = None if dsn == "-" else SharedLimits(dsn)
    limits = None if limiter is None else {"zai": Limits(requests_per_minute=requests_per_minute)}
    told = Counter[str]()
    async with LLMClient(
        model="zai/glm-5.3", cost_tracker=LocalLedger(), breakers=Breakers(), limits=limits, limiter=limiter, timeout=3
    ) as llm:

        async def call() -> None:
            for _ in range(calls):
                try:
                    await llm.chat("Is it?", max_tokens=1000)
                    told["answered"] += 1
                except (LimitReachedError, DeadlineExceededError):
                    told["refused"] += 1

        await llm.check("Is it?")  # loads what a first call loads
        os.write(1, b"ready\n")
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(call() for _ in range(tasks)))
    if limiter is not None:
        await limiter.aclose()
    os.write(1, f"{told['answered']} {told['refused']}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
