"""A folder of bills on a Ray cluster: runs that survive the death of any worker or node, each step paid once.

    RAY_ADDRESS=10.0.0.5:6379 python examples/analysis_on_ray.py BILLS/ --jurisdiction California

The nodes need this file's module and `llm-common[ray]`, ZAI_API_KEY and DATABASE_URL: in their image, or shipped by
`ray job submit --runtime-env-json`. To them travel only the ids of runs; texts and results are in Postgres. Started
again, it goes on where it stopped.
"""

import asyncio
from argparse import ArgumentParser
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.pipeline import Item

MODELS = {"research": "zai/glm-5.3-flash", "generate": "zai/glm-5.3", "review": "zai/glm-5.2"}


@asynccontextmanager
async def pipeline() -> AsyncGenerator[AnalysisPipeline]:
    """What the driver works with, and what each of the cluster's workers opens once."""
    async with Database.connect() as db:
        tracker = CostTracker(db, daily_budget_usd=200, project="affordabot")
        async with LLMClient(cost_tracker=tracker) as llm, WebSearchClient(None, db, cost_tracker=tracker) as search:
            yield AnalysisPipeline(llm, search, tracker, db)


def bills(folder: Path, jurisdiction: str) -> Iterator[Item]:
    """Read one after the other, as they are needed."""
    for file in sorted(folder.glob("*.txt")):
        yield Item(file.stem, file.read_text(), jurisdiction)


async def analyse(items: Iterator[Item], concurrency: int) -> None:
    async with pipeline() as here:
        await here.db.migrate()
        stream = here.stream_many(
            items, MODELS, engine="ray", factory="analysis_on_ray:pipeline", concurrency=concurrency
        )
        async with aclosing(stream) as results:
            async for result in results:
                print(f"{result.bill_id}: {result.error or result.answer().summary}")


def main() -> None:
    parser = ArgumentParser(description="Analyse a folder of bills on a Ray cluster.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jurisdiction", required=True)
    parser.add_argument("--concurrency", type=int, default=200)
    wanted = parser.parse_args()
    asyncio.run(analyse(bills(wanted.folder, wanted.jurisdiction), wanted.concurrency))


if __name__ == "__main__":
    main()
