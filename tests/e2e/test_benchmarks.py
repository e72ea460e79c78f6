"""The benchmarks run and measure what they say; how fast anything is, is not a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.calls import FIGURES
from benchmarks.contestants import CONTESTANTS

ROOT = Path(__file__).parents[2]


def test_every_contestant_does_the_whole_work(dsn: str) -> None:
    """Each gives the whole answer to each call and each stream, and the valid object to each structured call."""
    program = """
import asyncio
from benchmarks.calls import instant_server
from benchmarks.calls import FIGURES
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.__main__ import measured

with instant_server() as url:
    for name in CONTESTANTS:
        print(name, *asyncio.run(measured(name, url, 2, 2, 2)), sep="|")
"""
    environment = {**os.environ, "DATABASE_URL": dsn, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    done = {name: set(figures) for name, *figures in (line.split("|") for line in finished.stdout.splitlines())}
    assert done.keys() == CONTESTANTS.keys()
    structured = {"structured_cpu", "structured_wall"}
    everything = structured | {"call_cpu", "call_wall", "stream_cpu", "stream_wall", "first_piece_wall"}
    assert {name: structured if "instructor" in name else everything for name in CONTESTANTS} == done


def test_the_benchmarks_run() -> None:
    """Each figure comes with its ratios to bare aiohttp and to LiteLLM, from whole processes in turn."""
    tiny = ("--rounds", "1", "--calls", "4", "--streams", "2", "--concurrency", "2", "--json", "--only", "llm_common")
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", *tiny], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(finished.stdout)
    assert {"llm_common", "httpx", "aiohttp", "openai", "litellm"} <= {row["name"] for row in measured["imports"]}
    for figure in FIGURES:
        rows = {row["name"]: row for row in measured[figure]}
        assert rows.keys() == {"llm_common", "aiohttp", "litellm"}
        assert all(row["version"] and row["milliseconds"] > 0 for row in rows.values())
        assert (rows["aiohttp"]["to_aiohttp"], rows["litellm"]["to_litellm"]) == (1.0, 1.0)


def test_the_tables_say_where_others_are_cheaper(tmp_path: Path) -> None:
    """Below each table stands who is cheaper than we are, and by what factor, whether we like it or not."""
    program = (
        "from benchmarks.__main__ import _lost; "
        "print(_lost({'llm_common': 3.0, 'aiohttp': 1.0, 'httpx': 2.0, 'litellm': 9.0})); "
        "print(_lost({'llm_common': 1.0, 'litellm': 9.0})); "
        "print(_lost({'aiohttp': 1.0, 'litellm': 9.0}))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == [
        "cheaper than llm_common: aiohttp (3.0 times), httpx (1.5 times)",
        "cheaper than llm_common: nobody here",
        "llm_common was not among them: run without --only, or with --only llm_common, to compare",
    ]
