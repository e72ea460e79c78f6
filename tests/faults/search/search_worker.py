"""Searches for one key from many tasks of a process of its own: `python search_worker.py DSN TASKS LEASE_SECONDS`.

Says "ready", waits for a line, searches, and prints how many answers and which sizes came.
"""

import asyncio
import json
import sys

from llm_common.web_search import WebSearchClient


async def main(dsn: str, tasks: int, lease_seconds: float) -> None:
    async with WebSearchClient(None, dsn, lease_seconds=lease_seconds) as search:
        await search.search("warm up")
        _say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        answers = await asyncio.gather(*(search.search("the same question") for _ in range(tasks)))
        _say(json.dumps({"answers": len(answers), "sizes": sorted({len(answer) for answer in answers})}))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
