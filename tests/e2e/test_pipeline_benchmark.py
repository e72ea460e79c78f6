"""The pipeline benchmark runs and measures what it says; how fast anything is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pipeline_benchmark_runs() -> None:
    """Real runs are compared with a bare script that makes the same calls."""
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "pipeline", "--tiny", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(finished.stdout)
    # No run can be faster than the calls that wait for each other.
    assert measured["critical_path"] >= 1
    assert measured["searches"] > 1
    assert measured["runs"] == 10
    assert min(measured[name] for name in ("many_wall", "many_cpu", "memory", "megabytes")) > 0
