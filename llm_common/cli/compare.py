"""`llm-common compare`: combinations of models over the same bills, next to each other."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_common.cli.analyze import interruptible
from llm_common.cli.bills import BillFiles
from llm_common.cli.console import escape, notes, write_json
from llm_common.cli.options import AsCsv, AsJson, DatabaseUrl, DataDir, RawCsv
from llm_common.cli.tables import write_csv
from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.spec import STEPS

if TYPE_CHECKING:
    from llm_common.cli.comparison import Contestant
    from llm_common.cli.context import CommandContext
    from llm_common.pipeline import Item

__all__ = ["compare"]

Models = dict[str, str]
_FIGURES = (
    "runs", "failed", "insufficient", "pass_rate", "quality", "scored", "left_out", "rounds", "cost_per_run",
    "tokens_per_run", "p50_seconds", "p95_seconds",
)  # fmt: skip


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
    json: AsJson = False,
    as_csv: AsCsv = False,
    raw_csv: RawCsv = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Analyse the same bills with several combinations of models, and show quality next to cost.

    What was analysed before with the same models is not paid again, so an interrupted comparison goes on where it
    stopped. Quality is what people scored (llm-common runs score) where every analysis has a score, else the share of
    the runs whose last review passed.
    """
    if json + as_csv + raw_csv > 1:
        raise InvalidInputError("choose one of --json, --csv and --raw-csv")
    if len(models) == 1 or len(models) > len(ascii_uppercase):
        raise InvalidInputError(f"give --models 2 to {len(ascii_uppercase)} times, once for each combination")
    files = BillFiles(bills)
    items = list(files.items(jurisdiction))
    if files.unreadable:
        raise next(iter(files.unreadable.values()))

    async def work() -> None:
        from llm_common.cli.comparison import show_comparison
        from llm_common.cli.context import open_context

        async with open_context(database_url, data_dir, what="a comparison") as here:
            combinations = _combinations(models, here.models)
            here.check_models(model for combination in combinations for model in combination.values())
            contestants = [
                await _contestant(here, letter, combination, items, concurrency, max_rounds)
                for letter, combination in zip(ascii_uppercase, combinations, strict=False)
            ]
        if json:
            write_json([_document(one) for one in contestants])
        elif as_csv or raw_csv:
            _write_csv(contestants, raw=raw_csv)
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
    here: "CommandContext",
    letter: str,
    combination: Models,
    items: "Sequence[Item]",
    concurrency: int,
    max_rounds: int,
) -> "Contestant":
    from llm_common.cli.comparison import Contestant

    told = ", ".join(f"{step} {model}" for step, model in combination.items())
    notes.print(f"[bold]{letter}[/] {escape(told)}")
    run_ids: list[str] = []
    stream = here.pipeline.stream_many(items, combination, concurrency=concurrency, max_rounds=max_rounds)
    async with aclosing(stream) as results:
        async for result in results:
            became = "done" if result.error is None else f"[red]{escape(str(result.error))}[/]"
            notes.print(f"  {letter} {escape(result.bill_id)}: {became}")
            if result.run_id is not None:
                run_ids.append(result.run_id)
    # All these runs have one spec, one version and these models.
    figures = await here.db.runs.compare(run_ids)
    return Contestant(letter, combination, figures[0] if figures else None, unstarted=len(items) - len(run_ids))


def _document(contestant: "Contestant") -> dict[str, Any]:
    figures = None if contestant.figures is None else asdict(contestant.figures)
    return {"combination": contestant.letter, "models": contestant.models, "figures": figures}


def _write_csv(contestants: "Sequence[Contestant]", *, raw: bool) -> None:
    rows = [
        [one.letter, *_figures(one), *(one.models[step] for step in STEPS)]  # numbers as numbers, for programs
        for one in contestants
    ]
    write_csv(["combination", *_FIGURES, "unstarted", *STEPS], rows, raw=raw)


def _figures(contestant: "Contestant") -> list[object]:
    figures = contestant.figures
    values = [None if figures is None else getattr(figures, name) for name in _FIGURES]
    return [*("" if value is None else value for value in values), contestant.unstarted]
