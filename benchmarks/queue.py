"""Claiming from a short and from a long queue: `python -m benchmarks queue`. How many a second, and what each reads.

The server is one of its own, and commits do not wait for its disk (see `queue_speed.queues`). The long queues have
100,000 runs; one of them has a history of as many completed ones. What a turn claims is completed and enqueued anew
before the next turn, so each queue stays as long as it is.
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

from benchmarks.postgres import server
from benchmarks.queue_speed import QueueCosts, QueueLoad, queues

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    usual = QueueLoad()
    parser = ArgumentParser(prog="python -m benchmarks queue", description="Claims from a short and from a long queue.")
    parser.add_argument(
        "--runs", type=int, nargs=2, default=[usual.few, usual.many], help="of both queues (default 1000 100000)"
    )
    parser.add_argument("--done", type=int, default=usual.done, help="completed runs in a third (default 100000)")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="turns of each (default 15)")
    parser.add_argument("--claims", type=int, default=usual.claims, help="in each turn (default 100)")
    parser.add_argument(
        "--drained", type=int, default=usual.drained, help="claimed to see what dead rows cost (default 50000)"
    )
    parser.add_argument("--dir", type=Path, help="where the data goes (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    wanted = parser.parse_args(arguments)
    few, many = wanted.runs
    load = QueueLoad(few, many, wanted.done, wanted.rounds, wanted.claims, wanted.drained)
    with server(wanted.dir) as postgres:
        machine = f"{postgres.about}; {platform.python_implementation()} {platform.python_version()}"
        machine = f"{machine}, {os.cpu_count()} cores"
        costs = queues(postgres, load)
    if wanted.json:
        figures = {
            "rates": [{**asdict(one), "ratio": one.ratio, "done_ratio": one.done_ratio} for one in costs.rates],
            "reads": [asdict(one) for one in costs.reads],
            "drained": [{**asdict(one), "ratio": one.ratio} for one in costs.drained],
        }
        print(json.dumps({"machine": machine, "load": asdict(load), **figures}, indent=2))
        return
    console = Console()
    console.print(f"{machine}\n", highlight=False, soft_wrap=True)
    _show(console, costs, load)


def _show(console: Console, costs: QueueCosts, load: QueueLoad) -> None:
    few, many, done = f"{load.few:,} wait", f"{load.many:,} wait", f"and {load.done:,} are done"
    table = Table("", title="Runs in a second, without waiting for the disk", title_justify="left", title_style="bold")
    for column in (few, many, "slower by", done, "slower by"):
        table.add_column(column, justify="right")
    for one in costs.rates:
        long = (f"{one.many:.0f}", f"{one.ratio:.2f}", f"{one.many_and_done:.0f}", f"{one.done_ratio:.2f}")
        table.add_row(one.name, f"{one.few:.0f}", *long)
    console.print(table, "")
    table = Table("", title="Pages that it reads", title_justify="left", title_style="bold")
    for column in (few, many, done, "ms"):
        table.add_column(column, justify="right")
    for one in costs.reads:
        table.add_row(one.name, f"{one.few:,}", f"{one.many:,}", f"{one.many_and_done:,}", f"{one.milliseconds:.2f}")
    console.print(table, "")
    for one in costs.drained:
        vacuum = "with autovacuum" if one.autovacuum else "without any vacuum"
        console.print(
            f"When {one.runs:,} of {load.many:,} were completed, {vacuum}: {one.drained_ms:.2f} ms a claim, "
            f"{one.new_ms:.2f} ms in a new queue: {one.ratio:.2f} times",
            highlight=False,
            soft_wrap=True,
        )
