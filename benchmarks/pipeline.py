"""What a run costs beside its calls: its critical path, many at once next to a bare asyncio script, and memory.

`python -m benchmarks pipeline`. The provider, with a fixed time for each answer, and Postgres have processes of their
own.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
from rich.console import Console

from benchmarks.pipeline_server import BILL
from benchmarks.postgres import Server, server
from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.pipeline import LEGISLATION
from llm_common.search.providers.http import HttpProvider
from llm_common.search.providers.zai import FACTS

__all__ = ["PipelineCosts", "PipelineLoad", "main", "pipelines"]

_MODEL: Final = "openai/gpt-6-luna"
_MODELS: Final = {"research": _MODEL, "generate": _MODEL, "review": _MODEL}
#: Research, the searches, generate, review: each waits for the one before.
_STEPS: Final = 4


@dataclass(frozen=True)
class PipelineLoad:
    """`searches` of each run; `single` runs one after the other, `many` at once, `long` of them for the memory.

    The provider takes `seconds` for each answer, and none where CPU time and memory are measured.
    """

    seconds: float = 1.0
    searches: int = 25
    single: int = 7
    many: int = 200
    long: int = 5_000


@dataclass(frozen=True)
class PipelineCosts:
    """Ratios, and what they are made of.

    `critical_path`: a run's seconds to those that its calls take one after the other. `searches`: how many times
    longer the same searches take in a row. `many_wall`, `many_cpu`: many runs at once to a bare script that makes the
    same calls. `memory`: resident memory after all runs to that after a tenth of them.
    """

    critical_path: float
    run_seconds: float
    searches: float
    many_wall: float
    many_cpu: float
    cpu_ms_per_run: float
    bare_cpu_ms_per_run: float
    memory: float
    megabytes: float
    runs: int


def pipelines(load: PipelineLoad, folder: Path | None) -> PipelineCosts:
    with server(folder) as postgres:
        return asyncio.run(_measured(load, postgres))


async def _measured(load: PipelineLoad, postgres: Server) -> PipelineCosts:
    with _provider(load.seconds, load.searches) as url:
        async with _pipeline(url, postgres.create("patient")) as (pipeline, search):
            await _runs(pipeline, 1, 1)
            seconds = [await _runs(pipeline, 1, 1) for _ in range(load.single)]
            in_a_row = await _in_a_row(search, load.searches)
            at_once = await _at_once(search, load.searches)
            many = await _runs(pipeline, load.many, load.many)
        bare_many = await _timed(_bare(url, load.many, load.many, load.searches))
    with _provider(0, load.searches) as url:
        async with _pipeline(url, postgres.create("quick")) as (pipeline, _):
            await _runs(pipeline, 5, 5)
            cpu = await _cpu(_runs(pipeline, load.many, load.many))
        bare_cpu = await _cpu(_bare(url, load.many, load.many, load.searches))
    with _provider(0, 2) as url:
        async with _pipeline(url, postgres.create("long")) as (pipeline, _):
            await _runs(pipeline, load.long // 10, 50)
            early = _resident()
            await _runs(pipeline, load.long - load.long // 10, 50)
            late = _resident()
    return PipelineCosts(
        critical_path=median(seconds) / (_STEPS * load.seconds),
        run_seconds=median(seconds),
        searches=in_a_row / at_once,
        many_wall=many / bare_many,
        many_cpu=cpu / bare_cpu,
        cpu_ms_per_run=1_000 * cpu / load.many,
        bare_cpu_ms_per_run=1_000 * bare_cpu / load.many,
        memory=late / early,
        megabytes=late / 2**20,
        runs=load.long,
    )


@contextmanager
def _provider(seconds: float, searches: int) -> Generator[str]:
    arguments = [sys.executable, "-m", "benchmarks.pipeline_server", str(seconds), str(searches)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@asynccontextmanager
async def _pipeline(url: str, dsn: str) -> AsyncGenerator[tuple[AnalysisPipeline, WebSearchClient]]:
    async with (
        Database.connect(dsn) as db,
        LLMClient("openai", "key", base_url=url) as llm,
        WebSearchClient(None, db, provider=HttpProvider(FACTS, "key", url)) as search,
    ):
        yield AnalysisPipeline(llm, search, CostTracker(db), db), search


async def _runs(pipeline: AnalysisPipeline, number: int, at_once: int) -> float:
    """Seconds for so many runs."""

    async def one() -> None:
        analysis = await pipeline.run("AB-1", BILL, "California", _MODELS)
        assert analysis.impacts
        assert not analysis.research_failures

    return await _timed(_bounded(one, number, at_once))


async def _bounded(work: Callable[[], Awaitable[None]], number: int, at_once: int) -> None:
    left = iter(range(number))

    async def worker() -> None:
        for _ in left:
            await work()

    await asyncio.gather(*(worker() for _ in range(min(at_once, number))))


async def _in_a_row(search: WebSearchClient, number: int) -> float:
    async def all_of_them() -> None:
        for query in range(number):
            await search.search(f"in a row {query}", LEGISLATION.results_per_search)

    return await _timed(all_of_them())


async def _at_once(search: WebSearchClient, number: int) -> float:
    queries = [f"at once {query}" for query in range(number)]
    return await _timed(
        search.search_many(queries, LEGISLATION.results_per_search, concurrency=LEGISLATION.max_searches)
    )


async def _bare(url: str, number: int, at_once: int, searches: int) -> None:
    """The same calls, each with its answer parsed, and nothing else."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(path: str, body: dict[str, Any]) -> Any:
            async with session.post(f"{url}/{path}", json=body) as response:
                return await response.json()

        async def chat(asked: str) -> Any:
            messages = [{"role": "user", "content": f"{BILL}\n\n{asked}"}]
            answer = await post("chat/completions", {"model": "gpt-6-luna", "messages": messages})
            return json.loads(answer["choices"][0]["message"]["content"])

        async def one() -> None:
            queries = (await chat("Which searches?"))["queries"]
            found = await asyncio.gather(*(post("web_search", {"search_query": query}) for query in queries))
            assert len(found) == searches
            assert (await chat('Draft the "impacts".'))["impacts"]
            assert (await chat('Review: "missing_impacts"?'))["passed"]

        await _bounded(one, number, at_once)


async def _timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def _cpu(work: Awaitable[object]) -> float:
    started = time.process_time()
    await work
    return time.process_time() - started


def _resident() -> int:
    """Bytes, as Linux tells them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks pipeline", description="What a run costs beside its calls.")
    parser.add_argument("--folder", type=Path, help="where the Postgres lives meanwhile; default: temporary")
    parser.add_argument("--runs", type=int, default=PipelineLoad.long, help="runs to watch the memory (default 5000)")
    parser.add_argument("--tiny", action="store_true", help="just enough to see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of sentences")
    wanted = parser.parse_args(arguments)
    load = PipelineLoad(0.05, 4, 1, 3, 10) if wanted.tiny else PipelineLoad(long=wanted.runs)
    costs = pipelines(load, wanted.folder)
    if wanted.json:
        print(json.dumps({"load": asdict(load), **asdict(costs)}, indent=2))
    else:
        show(costs, load)


def show(costs: PipelineCosts, load: PipelineLoad) -> None:
    for line in (
        f"critical path: {costs.critical_path:.3f} times its {_STEPS} calls of {load.seconds} s in a row",
        f"{load.searches} searches: {costs.searches:.1f} times as fast as one after the other",
        f"{load.many} runs at once: {costs.many_wall:.2f} times the wall time of a bare asyncio script, "
        f"{costs.many_cpu:.1f} times its CPU time "
        f"({costs.cpu_ms_per_run:.1f} ms to {costs.bare_cpu_ms_per_run:.1f} ms)",
        f"memory over {costs.runs:,} runs: {costs.memory:.3f} times that after a tenth of them "
        f"({costs.megabytes:.0f} MB)",
    ):
        Console().print(line, highlight=False)
