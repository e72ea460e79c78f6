"""The search benchmark runs and measures what it says; how fast anything is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_search_benchmark_runs() -> None:
    """Every part answers, one request goes upstream in the stampede, and the real client agrees with the model."""
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "search", "--tiny", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(finished.stdout)
    for part, base in (("memory", "cachetools"), ("postgres", "SELECT")):
        rows = measured[part]
        assert {"llm_common", base} <= {row["name"].split(" ")[0] for row in rows}
        assert all(row["hit_us"] > 0 and row["version"] for row in rows)
        assert {row["ratio"] for row in rows if row["name"] == base} == {1.0}
    assert measured["counting_us"] > 0
    assert measured["handing_over_us"] > 0
    stampede, replayed = measured["stampede"], measured["replay"]
    assert (stampede["callers"], stampede["upstream_requests"]) == (20, 1)
    assert stampede["p99_ms"] >= stampede["p50_ms"] >= stampede["upstream_ms"]
    assert (replayed["searches"], replayed["validated"]) == (80, 40)
    assert 0 < replayed["plain_rate"] <= replayed["hit_rate"] <= replayed["best_rate"] < 1
