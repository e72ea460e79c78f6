"""One process of a stampede: `python -m benchmarks.search_worker DSN CALLERS`.

Says "ready", waits for a line, searches for one key with all callers at once, and prints how many seconds each took.
"""

import asyncio
import json
import sys
import time

from llm_common.web_search import WebSearchClient


async def main(dsn: str, callers: int) -> None:
    async with WebSearchClient(None, dsn) as search:
        await search.search("warm up")
        print("ready", flush=True)
        query = (await asyncio.to_thread(sys.stdin.readline)).strip()

        async def one() -> float:
            started = time.perf_counter()
            await search.search(query)
            return time.perf_counter() - started

        print(json.dumps(await asyncio.gather(*(one() for _ in range(callers)))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
