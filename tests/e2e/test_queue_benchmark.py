"""The queue's benchmark runs and measures what it says; how fast anything is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ("--runs", "100", "2000", "--done", "500", "--rounds", "1", "--claims", "5", "--drained", "100")


def benchmark(*arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "queue", *TINY, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_queue_is_measured(scratch_dir: str | None) -> None:
    """Claims and enqueueing on three queues, what each reads, and a queue of which a part was claimed and completed."""
    measured = json.loads(benchmark("--json", *(("--dir", scratch_dir) if scratch_dir else ())))
    assert "PostgreSQL" in measured["machine"]
    rates = {rate["name"]: rate for rate in measured["rates"]}
    assert {"claim 1 at a time", "claim 8 at a time", "8 workers claim, 1 each"} < set(rates)
    assert all(rate["ratio"] == rate["few"] / rate["many"] > 0 for rate in rates.values())
    reads = {read["name"]: read for read in measured["reads"]}
    # Twenty times as many runs wait, and a claim reads as many pages as before.
    assert reads["claim 1"]["many"] <= reads["claim 1"]["few"] + 10
    assert reads["claim 1"]["many_and_done"] <= reads["claim 1"]["few"] + 10
    assert [drained["autovacuum"] for drained in measured["drained"]] == [True, False]
    assert {drained["runs"] for drained in measured["drained"]} == {100}


def test_the_tables_say_on_what_they_were_measured(scratch_dir: str | None) -> None:
    """Server, settings and versions stand above the figures."""
    told = benchmark(*(("--dir", scratch_dir) if scratch_dir else ()))
    assert told.startswith("PostgreSQL ")
    for part in ("fsync on", "psycopg", "cores", "claim 1", "100 wait", "2,000 wait", "without any vacuum"):
        assert part in told
