"""The benchmarks run and measure what they say; how fast anything is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmarks_run() -> None:
    """Every contestant imports, gets ready, and gives the whole answer to each call and each stream."""
    tiny = ("--rounds", "1", "--calls", "4", "--streams", "2", "--concurrency", "2", "--json")
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", *tiny], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(finished.stdout)
    peers = {"llm_common", "httpx", "aiohttp", "openai", "litellm"}
    for table, reference in (("imports", "httpx"), ("calls", "aiohttp")):
        rows = {row["name"]: row for row in measured[table]}
        assert peers <= rows.keys()
        assert all(row["version"] for row in rows.values())
        figures = [value for row in rows.values() for value in row.values() if not isinstance(value, str)]
        assert min(figures) > 0
        assert {value for figure, value in rows[reference].items() if figure.endswith("ratio")} == {1.0}


def test_the_tables_say_where_others_are_cheaper(tmp_path: Path) -> None:
    """Below each table stands who is cheaper than we are, and by what factor, whether we like it or not."""
    program = (
        "from benchmarks.__main__ import _lost; "
        "print(_lost({'llm_common': 3.0, 'aiohttp': 1.0, 'httpx': 2.0, 'litellm': 9.0})); "
        "print(_lost({'llm_common': 1.0, 'litellm': 9.0}))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines() == [
        "cheaper than llm_common: aiohttp (3.0 times), httpx (1.5 times)",
        "cheaper than llm_common: nobody here",
    ]
