"""`llm-common compare`: combinations of models over the same bills, next to each other."""

import csv
import json as json_text
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from llm_common.cli.analyze import interruptible
from llm_common.cli.bills import BillFiles
from llm_common.cli.console import notes
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.spec import STEPS

if TYPE_CHECKING:
    from llm_common.cli.comparison import Contestant
    from llm_common.cli.context import Workplace
    from llm_common.pipeline import Item

__all__ = ["compare"]

Models = dict[str, str]


def compare(
    bills: Annotated[list[str], typer.Argument(help="Text files of bills, or folders of them.", metavar="BILLS...")],
    models: Annotated[
        list[str],
        typer.Option(
            help="A combination to compare: one model for all steps, or research=...,generate=...,review=...; give two "
            "or more."
        ),
    ],
    jurisdiction: Annotated[str, typer.Option(help="Whose bills they are, such as California.")],
    max_rounds: Annotated[int, typer.Option(min=0, help="How often a draft may be refined.")] = 2,
    concurrency: Annotated[int, typer.Option(min=1, help="So many bills at the same time.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table alone, as CSV on standard output.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Analyse the same bills with several combinations of models, and show quality next to cost.

    What was analysed before with the same models is not paid again, so an interrupted comparison goes on where it
    stopped. Quality is what people scored (llm-common runs score) where every analysis has a score, else the share of
    the runs whose last review passed.
    """
    if json and as_csv:
        raise InvalidInputError("choose one of --json and --csv")
    if len(models) == 1 or len(models) > len(ascii_uppercase):
        raise InvalidInputError(f"give --models 2 to {len(ascii_uppercase)} times, once for each combination")
    files = BillFiles(bills)
    items = list(files.items(jurisdiction))
    if files.unreadable:
        raise next(iter(files.unreadable.values()))

    async def work() -> None:
        from llm_common.cli.comparison import show_comparison
        from llm_common.cli.context import workplace

        async with workplace(database_url, data_dir) as here:
            combinations = _combinations(models, here.models)
            here.check_models(model for combination in combinations for model in combination.values())
            contestants = [
                await _contestant(here, letter, combination, items, concurrency, max_rounds)
                for letter, combination in zip(ascii_uppercase, combinations, strict=False)
            ]
        if json:
            sys.stdout.write(json_text.dumps([_document(one) for one in contestants], indent=2, default=str) + "\n")
        elif as_csv:
            _write_csv(contestants)
        else:
            show_comparison(contestants)

    interruptible(work())


def _combinations(texts: Sequence[str], defaults: Models) -> list[Models]:
    """Each as step → model; a step that a combination does not name has the default. Raises for one given twice."""
    combinations: list[Models] = []
    for text in texts:
        combination = defaults | _combination(text)
        combination.setdefault("refine", combination["generate"])
        if combination in combinations:
            raise InvalidInputError(f"--models {text!r} is a combination that was given before")
        combinations.append(combination)
    return combinations


def _combination(text: str) -> Models:
    if "=" not in text:
        return dict.fromkeys(STEPS, text.strip())
    named: Models = {}
    for pair in text.split(","):
        step, _, model = (part.strip() for part in pair.partition("="))
        if step not in STEPS or not model or step in named:
            raise InvalidInputError(
                f"--models {text!r}: {pair.strip()!r} must be step=model, each step once, with a step of "
                f"{', '.join(STEPS)}"
            )
        named[step] = model
    return named


async def _contestant(
    here: "Workplace",
    letter: str,
    combination: Models,
    items: "Sequence[Item]",
    concurrency: int,
    max_rounds: int,
) -> "Contestant":
    from llm_common.cli.comparison import Contestant

    told = ", ".join(f"{step} {model}" for step, model in combination.items())
    notes.print(f"[bold]{letter}[/] {escape(told)}", highlight=False)
    run_ids: list[str] = []
    stream = here.pipeline.stream_many(items, combination, concurrency=concurrency, max_rounds=max_rounds)
    async with aclosing(stream) as results:
        async for result in results:
            became = "done" if result.error is None else f"[red]{escape(str(result.error))}[/]"
            notes.print(f"  {letter} {escape(result.bill_id)}: {became}", highlight=False)
            if result.run_id is not None:
                run_ids.append(result.run_id)
    # All these runs have one spec, one version and these models.
    figures = await here.db.runs.compare(run_ids)
    return Contestant(letter, combination, figures[0] if figures else None, unstarted=len(items) - len(run_ids))


def _document(contestant: "Contestant") -> dict[str, Any]:
    figures = None if contestant.figures is None else asdict(contestant.figures)
    return {"combination": contestant.letter, "models": contestant.models, "figures": figures}


def _write_csv(contestants: "Sequence[Contestant]") -> None:
    from llm_common.cli.comparison import COLUMNS, cells

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["combination", *COLUMNS, *STEPS])
    for contestant in contestants:
        models = [contestant.models[step] for step in STEPS]
        writer.writerow([contestant.letter, *cells(contestant), *models])
