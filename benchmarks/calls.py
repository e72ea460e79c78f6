"""What a call, a structured call and a stream cost, next to bare HTTP clients and to other libraries."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import postgres
from benchmarks.contestants import BASE, CONTESTANTS, LITELLM
from benchmarks.processes import Process, in_turn

__all__ = ["FIGURES", "Contest", "Cost", "Load", "contest", "instant_server"]

#: What is compared: in milliseconds, of the client's CPU, or of the clock where CPU is not the point.
FIGURES: Final[Mapping[str, str]] = {
    "call_cpu": "A call, many at a time; the client's CPU",
    "structured_cpu": "A structured call, many at a time; the client's CPU",
    "stream_cpu": "A stream of 100 chunks, 10 at a time; the client's CPU",
    "first_piece_wall": "The first piece of a stream, one at a time; the clock",
    "cold_wall": "From the start of a process to its first answer; the clock of the whole process",
}


@dataclass(frozen=True)
class Load:
    """How much each process does: `calls` at `concurrency`, `streams` at 10, both rounded down to whole shares."""

    calls: int
    streams: int
    concurrency: int


@dataclass(frozen=True)
class Cost:
    """The median of one figure in milliseconds, and how it compares with bare aiohttp's and with LiteLLM's."""

    name: str
    version: str
    milliseconds: float
    to_aiohttp: float
    to_litellm: float


#: By figure, the contestants that it applies to.
Contest = Mapping[str, Sequence[Cost]]


def contest(rounds: int, load: Load, folder: Path | None = None, names: Sequence[str] = ()) -> Contest:
    """Measure the contestants (all of them, or `names`, bare aiohttp and LiteLLM), interleaved.

    A Postgres for the ledger lives below `folder` meanwhile.
    """
    wanted = [name for name in CONTESTANTS if not names or name in {*names, BASE, LITELLM}]
    with instant_server() as url, postgres.server(folder) as database:
        os.environ["DATABASE_URL"] = database.create("calls")
        numbers = (str(load.calls), str(load.streams), str(load.concurrency))
        warm = {name: ("-m", "benchmarks.contestants", name, url, *numbers) for name in wanted}
        cold = {f"cold {name}": ("-m", "benchmarks.contestants", name, url, "0", "0", "0") for name in wanted}
        runs = in_turn({**warm, **cold}, rounds)
    took = {name: _medians(runs[name], runs[f"cold {name}"]) for name in wanted}
    return {figure: [_cost(name, figure, took) for name in wanted if figure in took[name]] for figure in FIGURES}


def _cost(name: str, figure: str, took: Mapping[str, Mapping[str, float]]) -> Cost:
    milliseconds = took[name][figure]
    return Cost(
        name=name,
        version=version(CONTESTANTS[name].distribution),
        milliseconds=milliseconds,
        to_aiohttp=milliseconds / took[BASE][figure],
        to_litellm=milliseconds / took[LITELLM][figure],
    )


def _medians(warm: Sequence[Process], cold: Sequence[Process]) -> dict[str, float]:
    printed: list[dict[str, float]] = [json.loads(process.output) for process in warm]
    figures = {figure: median(one[figure] for one in printed) for figure in printed[0]}
    return {**figures, "cold_wall": median(process.seconds for process in cold) * 1000}


@contextmanager
def instant_server() -> Generator[str]:
    """The base URL of the instant provider, in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.instant_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
