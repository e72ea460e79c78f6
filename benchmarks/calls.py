"""What a call and a stream cost in CPU, next to bare HTTP clients and to other libraries."""

import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Final

from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import Process, in_turn

__all__ = ["CallCost", "Load", "calls"]

_BASE: Final = "aiohttp"
_DISTRIBUTIONS: Final = {"llm_common": "llm-common"}


@dataclass(frozen=True)
class Load:
    """How much each process does: `calls` at `concurrency`, `streams` at 10, both rounded down to whole shares."""

    calls: int
    streams: int
    concurrency: int


@dataclass(frozen=True)
class CallCost:
    """Medians in milliseconds: of the client's CPU, and of the clock divided by the number of calls.

    The ratios are of CPU, to bare aiohttp.
    """

    name: str
    version: str
    call_cpu_ms: float
    call_wall_ms: float
    call_ratio: float
    stream_cpu_ms: float
    stream_wall_ms: float
    stream_ratio: float


def calls(rounds: int, load: Load) -> list[CallCost]:
    with _server() as url:
        numbers = (str(load.calls), str(load.streams), str(load.concurrency))
        programs = {name: ("-m", "benchmarks.contestants", name, url, *numbers) for name in CONTESTANTS}
        runs = in_turn(programs, rounds)
    took = {name: _medians(processes) for name, processes in runs.items()}
    return [
        CallCost(
            name=name,
            version=version(_DISTRIBUTIONS.get(name, name)),
            call_cpu_ms=took[name]["call_cpu"],
            call_wall_ms=took[name]["call_wall"],
            call_ratio=took[name]["call_cpu"] / took[_BASE]["call_cpu"],
            stream_cpu_ms=took[name]["stream_cpu"],
            stream_wall_ms=took[name]["stream_wall"],
            stream_ratio=took[name]["stream_cpu"] / took[_BASE]["stream_cpu"],
        )
        for name in CONTESTANTS
    ]


def _medians(processes: Sequence[Process]) -> dict[str, float]:
    printed: list[dict[str, float]] = [json.loads(process.output) for process in processes]
    return {figure: median(one[figure] for one in printed) for figure in printed[0]}


@contextmanager
def _server() -> Generator[str]:
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
