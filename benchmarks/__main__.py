"""`python -m benchmarks`: tables, or one JSON document with `--json`. Takes some minutes; best on an idle machine.

`python -m benchmarks ledger`, `search`, `pipeline`, `queue` and `endurance` measure the ledger, the search cache, whole
runs, the queue of runs, and whether a process stays as small as it was; `rollout` counts a guardrail's alarms, false
and true, by simulation. Each has arguments of its own.
"""

import json
import os
import platform
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.calls import FIGURES, Contest, Cost, Load, contest
from benchmarks.contestants import OURS
from benchmarks.endurance import main as endurance
from benchmarks.imports import ImportCost, imports
from benchmarks.ledger import main as ledger
from benchmarks.pipeline import main as pipeline
from benchmarks.queue import main as queue
from benchmarks.rollout import main as rollout
from benchmarks.search import main as search

_OTHERS: Final = {
    "ledger": ledger,
    "search": search,
    "pipeline": pipeline,
    "queue": queue,
    "endurance": endurance,
    "rollout": rollout,
}


def main() -> None:
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name in _OTHERS:
        _OTHERS[name](arguments)
        return
    parser = ArgumentParser(prog="python -m benchmarks", description="Speed as ratios of medians against peers.")
    parser.add_argument("--rounds", type=int, default=4, help="processes of each, the first to warm up (default 4)")
    parser.add_argument("--calls", type=int, default=400, help="calls in each process (default 400)")
    parser.add_argument("--streams", type=int, default=40, help="streams in each process (default 40)")
    parser.add_argument("--concurrency", type=int, default=50, help="calls at a time (default 50)")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these, next to aiohttp and litellm")
    parser.add_argument("--folder", type=Path, help="where the ledger's Postgres lives meanwhile; default: temporary")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    wanted = parser.parse_args()
    load = Load(wanted.calls, wanted.streams, wanted.concurrency)
    machine = f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    imported, measured = imports(wanted.rounds), contest(wanted.rounds, load, wanted.folder, wanted.only)
    if wanted.json:
        contests = {figure: [asdict(cost) for cost in costs] for figure, costs in measured.items()}
        figures = {"imports": [asdict(cost) for cost in imported], **contests}
        print(json.dumps({"machine": machine, "rounds": wanted.rounds, "load": asdict(load), **figures}, indent=2))
        return
    console = Console()
    console.print(f"{machine}; medians of {max(1, wanted.rounds - 1)} processes each, in turn\n", highlight=False)
    _show_imports(console, imported)
    _show_contest(console, measured, load)


def _show_imports(console: Console, costs: Sequence[ImportCost]) -> None:
    title = "A process that only imports, and one that gets ready for a call; ratios to httpx"
    table = _table(title, "import ms", "ratio", "ready ms", "ratio")
    for cost in costs:
        imported = (f"{cost.import_ms:.0f}", f"{cost.import_ratio:.2f}")
        table.add_row(cost.name, cost.version, *imported, f"{cost.ready_ms:.0f}", f"{cost.ready_ratio:.2f}")
    console.print(table)
    console.print("import:", _lost({cost.name: cost.import_ratio for cost in costs}))
    console.print("ready:", _lost({cost.name: cost.ready_ratio for cost in costs}), "\n")


def _show_contest(console: Console, measured: Contest, load: Load) -> None:
    console.print(f"many at a time: {load.concurrency}\n", highlight=False)
    for figure, costs in measured.items():
        table = _table(FIGURES[figure], "ms", "to aiohttp", "to litellm")
        for cost in costs:
            table.add_row(cost.name, cost.version, *_figures(cost))
        console.print(table)
        console.print(_lost({cost.name: cost.to_aiohttp for cost in costs}), "\n")


def _figures(cost: Cost) -> tuple[str, str, str]:
    return f"{cost.milliseconds:.3g}", f"{cost.to_aiohttp:.2f}", f"{cost.to_litellm:.3f}"


def _table(title: str, *columns: str) -> Table:
    table = Table("", "version", title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _lost(ratios: Mapping[str, float]) -> str:
    """Who is cheaper than we are, and by what factor."""
    ours = ratios.get(OURS)
    if ours is None:
        return f"{OURS} was not among them: run without --only, or with --only {OURS}, to compare"
    cheaper = sorted((ratio, name) for name, ratio in ratios.items() if ratio < ours)
    told = ", ".join(f"{name} ({ours / ratio:.1f} times)" for ratio, name in cheaper)
    return f"cheaper than {OURS}: {told or 'nobody here'}"


if __name__ == "__main__":
    main()
