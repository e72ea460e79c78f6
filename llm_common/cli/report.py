"""An analysis for people, and the same as one JSON document."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.padding import Padding

from llm_common.cli.console import escape, results
from llm_common.cli.tables import Column, show_table
from llm_common.db.functions.runs import RunCharge, RunRecord
from llm_common.money import format_usd
from llm_common.pipeline import BillAnalysis, Citation
from llm_common.pipeline.run_plan import OFFLINE

__all__ = ["Searches", "as_document", "show_analysis", "show_steps"]


_FIGURES = ("tokens", "seconds", "cost")


@dataclass(frozen=True, slots=True)
class Searches:
    """How many searches a run made, and how many of them the cache answered."""

    total: int
    from_cache: int


def as_document(analysis: BillAnalysis, run: RunRecord, searches: Searches | None) -> dict[str, Any]:
    """The analysis, with `steps` and `charges`, which add up to its cost; money as decimal strings."""
    steps = [
        {
            "step": step.key,
            "model": step.model,
            "status": step.status,
            "cost_usd": None if step.cost_usd is None else str(step.cost_usd),
            "tokens_used": step.tokens_used,
            "latency_ms": step.latency_ms,
        }
        for step in run.steps
    ]
    charges = [{**asdict(charge), "cost_usd": format(charge.cost_usd, "f")} for charge in run.charges]
    document: dict[str, Any] = analysis.model_dump(mode="json") | {"steps": steps, "charges": charges}
    if searches is not None:
        document["searches"] = {"total": searches.total, "from_cache": searches.from_cache}
    return document


def show_analysis(analysis: BillAnalysis) -> None:
    """Summary, impacts with their quotes, what was left out, and the sources."""
    results.rule(f"[bold]{escape(analysis.bill_id)}[/], {escape(analysis.jurisdiction)}")
    if analysis.answered_by == OFFLINE:
        results.print("[yellow]demo: a script made this up, nothing in it is real[/]\n")
    results.print(escape(analysis.summary))
    if analysis.status == "insufficient_evidence":
        results.print("\n[yellow]insufficient evidence:[/] no impact could be supported by a quote")
    for number, impact in enumerate(analysis.impacts, start=1):
        sure = "" if impact.confidence is None else f" [dim](confidence {impact.confidence:.0%})[/]"
        results.print(f"\n[bold]{number}. {escape(impact.title)}[/]{sure}")
        results.print(Padding(escape(impact.description), (0, 0, 0, 3)))
        for citation in impact.citations:
            results.print(Padding(_quote(citation), (0, 0, 0, 3)))
    for claim in analysis.unsupported:
        results.print(f"\n[yellow]left out:[/] {escape(claim.claim)} [dim]({escape(claim.reason)})[/]")
    _show_sources(analysis)


def _quote(citation: Citation) -> str:
    # The bill's own line breaks mean nothing on this screen.
    return f"[dim]{escape(citation.source_id)}[/] [italic]“{escape(' '.join(citation.quote.split()))}”[/]"


def _show_sources(analysis: BillAnalysis) -> None:
    cited = {citation.source_id for citation in analysis.evidence}
    results.print("\n[bold]Sources[/] [dim](* is cited)[/]")
    for source in analysis.sources:
        sign, style = ("*", "green") if source.id in cited else (" ", "dim")
        url = f" [dim]{escape(source.url)}[/]" if source.url else ""
        results.print(f"[{style}]{sign} {source.id:<5}[/]{escape(source.title)}{url}", soft_wrap=True)
    for failure in analysis.research_failures:
        results.print(f"[yellow]not found:[/] {escape(failure.query)} [dim]({escape(failure.reason)})[/]")


def show_steps(run: RunRecord, searches: Searches | None) -> None:
    """What each step cost and which model made it."""
    results.print(f"\n[bold]Run {run.id}: {run.status}[/]")
    show_table(
        [Column("step"), Column("model", fold=True), *(Column(name, number=True) for name in _FIGURES)],
        [
            [
                step.key,
                step.model or "",
                "" if step.tokens_used is None else f"{step.tokens_used:,}",
                "" if step.latency_ms is None else f"{step.latency_ms / 1000:.1f}",
                "" if step.cost_usd is None else format_usd(step.cost_usd),
            ]
            for step in run.steps
        ]
        + [_charge(charge) for charge in run.charges],
    )
    if searches is not None and searches.total:
        results.print(f"searches: {searches.total}, {searches.from_cache} of them from the cache")
    nobody = ", of which nobody was paid a cent" if run.answered_by == OFFLINE else ""
    results.print(f"total cost: {format_usd(run.cost_usd)}{nobody}")
    if run.answered_by is not None and run.answered_by != OFFLINE:
        results.print(f"answered by: {escape(run.answered_by)}")


def _charge(charge: RunCharge) -> list[str]:
    """What was paid beside the stored steps: searches, and calls that were cut off or failed."""
    what = "searches" if charge.kind == "search" else charge.step or charge.kind
    outcome = "" if charge.status == "ok" else f", {charge.status}"
    return [f"{what}{outcome} ({charge.calls})", charge.model, "", "", format_usd(charge.cost_usd)]
