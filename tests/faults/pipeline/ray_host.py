"""A host's module on the nodes of a Ray cluster: the pipeline that the file named by `RAY_HOST_SETTINGS` describes."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.pipeline import Analysis, AnalysisSpec, Claim, Prompts


class Duty(Claim):
    who: str


DUTIES = AnalysisSpec(
    name="duties",
    result=Analysis[Duty],
    document="BILL",
    prompts=Prompts(
        role="You read laws.", research="Write queries.", draft="List who must do what.", review="Review the list."
    ),
)


@asynccontextmanager
async def opened(spec: AnalysisSpec[Any] | None = None) -> AsyncGenerator[AnalysisPipeline[Any]]:
    settings = json.loads(await asyncio.to_thread(Path(os.environ["RAY_HOST_SETTINGS"]).read_text))
    os.environ.update(settings["environment"])
    async with (
        Database.connect(settings["dsn"]) as db,
        LLMClient(breakers=Breakers(), retry=RetryPolicy(base_wait=0.01), timeout=60.0) as llm,
        WebSearchClient(None, db) as search,
    ):
        # Kills are not the fault of a run, so none of them may use it up.
        limits: dict[str, Any] = {"lease_seconds": settings["lease_seconds"], "max_attempts": 1000}
        if spec is None:
            yield AnalysisPipeline(llm, search, CostTracker(db), db, **limits)
        else:
            yield AnalysisPipeline(llm, search, CostTracker(db), db, spec=spec, **limits)


def bills() -> Any:
    return opened()


def duties() -> Any:
    return opened(DUTIES)


def twice() -> Any:
    """Opens in two processes, and in no third one."""
    folder = Path(os.environ["RAY_HOST_SETTINGS"]).parent
    for number in range(2):
        try:
            (folder / f"opened-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return opened()
    raise RuntimeError("opened twice already")


@asynccontextmanager
async def broken() -> AsyncGenerator[AnalysisPipeline[Any]]:
    raise RuntimeError("this host has no such setting")
    yield
