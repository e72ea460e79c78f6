"""Run whole processes in turn, and time them."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Process", "in_turn"]


@dataclass(frozen=True)
class Process:
    """One finished process: seconds from its start to its end, and what it printed."""

    seconds: float
    output: str


def in_turn(programs: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Process]]:
    """Run each program (arguments of `python`) once in each round, shuffled.

    The first round warms the disk cache; it counts only where there is no other.
    """
    names = list(programs)
    results: dict[str, list[Process]] = {name: [] for name in names}
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            results[name].append(_run(programs[name]))
    return {name: processes[1:] or processes for name, processes in results.items()}


def _run(arguments: Sequence[str]) -> Process:
    # Fetching prices over the network would make LiteLLM look slower than it has to be.
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    started = time.perf_counter()
    finished = subprocess.run([sys.executable, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return Process(time.perf_counter() - started, finished.stdout)
