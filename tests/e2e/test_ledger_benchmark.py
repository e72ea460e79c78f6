"""The ledger's benchmark runs and measures what it says; how fast anything is, is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = (
    *("--connections", "1", "2", "--rounds", "1", "--seconds", "0.1", "--settlements", "3"),
    *("--rows", "300", "900", "--reports", "1"),
)


def benchmark(*arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "ledger", *TINY, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_ledger_is_measured(scratch_dir: str | None) -> None:
    """Pairs next to a bare INSERT, the rollup's price, and reports whose counters were proved against the rows."""
    measured = json.loads(benchmark("--json", *(("--dir", scratch_dir) if scratch_dir else ())))
    assert "PostgreSQL" in measured["machine"]
    assert "fsync on" in measured["machine"]
    speed = {(rate["name"], rate["connections"]): rate for rate in measured["speed"]}
    assert {name for name, _ in speed} == {
        "bare INSERT",
        "reserve + settle, one budget",
        "reserve + settle, 64 budgets",
    }
    assert {connections for _, connections in speed} == {1, 2}
    assert {rate["ratio"] for (name, _), rate in speed.items() if name == "bare INSERT"} == {1.0}
    assert min(rate["per_second"] for rate in speed.values()) > 0
    assert min(measured["rollup"].values()) > 0
    reports = {report["name"] for report in measured["reports"]}
    assert {"one day", "one month", "90 days by model", "check_cost_ledger()"} <= reports
    assert min(value for report in measured["reports"] for value in (report["few_ms"], report["many_ms"])) > 0


def test_the_tables_say_on_what_they_were_measured(scratch_dir: str | None) -> None:
    """Server, settings and versions stand above the figures."""
    told = benchmark(*(("--dir", scratch_dir) if scratch_dir else ()))
    assert told.startswith("PostgreSQL ")
    for part in ("fsync on", "psycopg", "cores", "bare INSERT", "without the rollup", "300 rows", "900 rows"):
        assert part in told


def test_counters_that_lie_end_it(scratch_dir: str | None) -> None:
    """A history whose counters do not agree with its rows is measured by nobody."""
    program = (
        "import sys; from pathlib import Path; import benchmarks.ledger_scale as scale; "
        "from benchmarks.postgres import server\n"
        "scale._ROLL_UP = scale._ROLL_UP.replace('sum(c.tokens_used)', 'sum(c.tokens_used) + 1', 1)\n"
        "folder = Path(sys.argv[1]) if sys.argv[1] else None\n"
        "with server(folder) as postgres:\n"
        "    scale.reports(postgres, scale.Scale(300, 900, 1))\n"
    )
    command = [sys.executable, "-c", program, scratch_dir or ""]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "RuntimeError: the ledger's counters do not agree with its rows" in finished.stderr
