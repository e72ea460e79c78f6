"""What the ledger costs: `python -m benchmarks ledger`, or with `--rows 10000 10000000` what a long history costs it.

The server is one of its own, on disk, with fsync on. Ten million rows take some minutes and 5 GB below `--dir`.
"""

import json
import os
import platform
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.ledger_scale import ReportTime, RollupCost, Scale, reports, rollup_cost
from benchmarks.ledger_speed import Rate, rates
from benchmarks.postgres import server

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks ledger", description="The ledger next to a bare INSERT.")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32], help="default: 1 8 32")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (default 2)")
    parser.add_argument("--settlements", type=int, default=500, help="timed with and without the rollup (default 500)")
    parser.add_argument(
        "--rows", type=int, nargs=2, default=[10_000, 100_000], help="of both histories (default 10000 100000)"
    )
    parser.add_argument("--reports", type=int, default=15, help="how often each report is timed (default 15)")
    parser.add_argument("--dir", type=Path, help="where the data goes (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    wanted = parser.parse_args(arguments)
    few, many = wanted.rows
    with server(wanted.dir) as postgres:
        machine = f"{postgres.about}; {platform.python_implementation()} {platform.python_version()}"
        machine = f"{machine}, {os.cpu_count()} cores"
        speed = rates(postgres, wanted.connections, rounds=wanted.rounds, seconds=wanted.seconds)
        rollup = rollup_cost(postgres, wanted.settlements)
        timed = reports(postgres, Scale(few, many, wanted.reports))
    if wanted.json:
        figures = {
            "speed": [asdict(rate) for rate in speed],
            "rollup": {**asdict(rollup), "ratio": rollup.ratio},
            "reports": [{**asdict(one), "ratio": one.ratio} for one in timed],
        }
        print(json.dumps({"machine": machine, "rows": wanted.rows, **figures}, indent=2))
        return
    console = Console()
    console.print(f"{machine}\n", highlight=False, soft_wrap=True)
    _show_speed(console, speed)
    _show_rollup(console, rollup)
    _show_reports(console, timed, few, many)


def _show_speed(console: Console, speed: Sequence[Rate]) -> None:
    table = Table(
        "",
        title="A second's work; ratios to the bare INSERT at as many connections",
        title_justify="left",
        title_style="bold",
    )
    for column in ("connections", "a second", "ratio"):
        table.add_column(column, justify="right")
    for rate in speed:
        table.add_row(rate.name, str(rate.connections), f"{rate.per_second:.0f}", f"{rate.ratio:.2f}")
    console.print(table, "")


def _show_rollup(console: Console, rollup: RollupCost) -> None:
    took = f"{rollup.with_ms:.3f} ms, {rollup.without_ms:.3f} ms without the rollup: {rollup.ratio:.2f} times"
    console.print(f"A settlement, not waiting for the disk: {took}\n", highlight=False, soft_wrap=True)


def _show_reports(console: Console, timed: Sequence[ReportTime], few: int, many: int) -> None:
    table = Table("", title="Reports over 90 days, milliseconds", title_justify="left", title_style="bold")
    for column in (f"{few:,} rows", f"{many:,} rows", "ratio"):
        table.add_column(column, justify="right")
    for one in timed:
        table.add_row(one.name, f"{one.few_ms:.3f}", f"{one.many_ms:.3f}", f"{one.ratio:.2f}")
    console.print(table)
