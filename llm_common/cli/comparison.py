"""Combinations of models as a table, and quality against cost as a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from llm_common._runtime.extras import require
from llm_common.cli.console import escape, results, write_text
from llm_common.cli.tables import Column, show_table
from llm_common.db.functions.comparison import PipelineFigures
from llm_common.money import format_usd

__all__ = ["COLUMNS", "Contestant", "Quality", "cells", "frontier", "quality_of", "show_comparison"]

COLUMNS: Final = (
    "runs", "failed", "insufficient", "passed", "quality", "left out", "rounds", "cost a run", "tokens a run", "p50 s",
    "p95 s",
)  # fmt: skip
_PLOT_COLUMNS, _PLOT_ROWS = 72, 16
#: The axis is so much longer than the dearest combination is dear: letters that share a place need room.
_ROOM: Final = 1.15

Quality = Literal["scored", "passed"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A combination of models (step → model), and what its runs came to: None where none of them ended.

    `unstarted`: so many bills could not become a run.
    """

    letter: str
    models: Mapping[str, str]
    figures: PipelineFigures | None
    unstarted: int = 0


def quality_of(contestants: Sequence[Contestant]) -> Quality:
    """What can be compared: people's scores where every completed run has one, else whether reviews passed."""
    figures = [one.figures for one in contestants if one.figures is not None]
    scored = all(one.completed and one.scored == one.completed for one in figures)
    return "scored" if figures and scored else "passed"


def _point(contestant: Contestant, quality: Quality) -> Point | None:
    """(US dollars a run, quality from 0 to 1). A run that failed passed no review."""
    figures = contestant.figures
    if figures is None:
        return None
    passed = (figures.pass_rate or 0.0) * figures.completed / figures.runs
    return float(figures.cost_per_run), passed if quality == "passed" else figures.quality or 0.0


def frontier(points: Mapping[str, Point]) -> frozenset[str]:
    """Those to choose from: nobody else is at least as good for at most the cost, and better in one of the two."""
    return frozenset(
        name
        for name, (cost, quality) in points.items()
        if not any(
            other_cost <= cost and other_quality >= quality and (other_cost, other_quality) != (cost, quality)
            for other_cost, other_quality in points.values()
        )
    )


def cells(contestant: Contestant) -> tuple[str, ...]:
    """The values of `COLUMNS`; - where there is nothing to tell."""
    figures = contestant.figures
    if figures is None:
        return ("0", str(contestant.unstarted), *["-"] * (len(COLUMNS) - 2))
    return (
        str(figures.runs),
        str(figures.failed + contestant.unstarted),
        str(figures.insufficient),
        _percent(figures.pass_rate),
        "-" if figures.quality is None else f"{figures.quality:.2f} ({figures.scored})",
        _plain(figures.left_out, 1),
        _plain(figures.rounds, 1),
        format_usd(figures.cost_per_run),
        f"{figures.tokens_per_run:,.0f}",
        _plain(figures.p50_seconds, 2),
        _plain(figures.p95_seconds, 2),
    )


def show_comparison(contestants: Sequence[Contestant]) -> None:
    """The table, who they are, and the plot. * marks those that no other one beats in both quality and cost."""
    quality = quality_of(contestants)
    points = {one.letter: point for one in contestants if (point := _point(one, quality)) is not None}
    best = frontier(points)
    show_table(
        [Column(""), *(Column(one.letter + "*" * (one.letter in best), number=True) for one in contestants)],
        [[name, *values] for name, values in zip(COLUMNS, zip(*map(cells, contestants), strict=True), strict=True)],
    )
    results.print()
    for contestant in contestants:
        models = ", ".join(f"{step} {model}" for step, model in contestant.models.items())
        results.print(f"[bold]{contestant.letter}[/] {escape(models)}")
    results.print("* none of the others is as good for less, or better for as much")
    if len(points) > 1:
        results.print()
        # Brackets are not markup there, and its lines must not be wrapped.
        write_text(_plot(points, quality, results.width) + "\n")


def _plot(points: Mapping[str, Point], quality: Quality, width: int) -> str:
    require("plotext", extra="cli", what="the plot")
    import plotext

    figure: Any = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(min(_PLOT_COLUMNS, width - 1), _PLOT_ROWS)
    for (cost, height), letters in _by_place(points).items():
        figure.draw(figure.text(cost, height, letters, alignment="center"))
    figure.ruler("y").lim(0, 1)
    figure.ruler("x").lim(0, max(cost for cost, _ in points.values()) * _ROOM or 1)
    figure.label("US dollars a run", "x")
    figure.label("quality" if quality == "scored" else "passed review", "y")
    plain = str(cast("Any", plotext).uncolorize(str(figure.build())))
    return "\n".join(line.rstrip() for line in plain.splitlines())


def _by_place(points: Mapping[str, Point]) -> dict[Point, str]:
    """Letters that would lie on top of each other, side by side."""
    places: dict[Point, str] = {}
    for letter, place in points.items():
        places[place] = places.get(place, "") + letter
    return places


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _plain(number: float | None, digits: int) -> str:
    return "-" if number is None else f"{number:.{digits}f}"
