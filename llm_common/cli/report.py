"""An analysis for people, and the same as one JSON document."""

import json
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from llm_common.cli.console import results
from llm_common.db.functions.runs import RunRecord
from llm_common.money import format_usd
from llm_common.pipeline import BillAnalysis, Citation

__all__ = ["Searches", "as_document", "show_analysis", "show_steps"]


@dataclass(frozen=True, slots=True)
class Searches:
    """How many searches a run made, and how many of them the cache answered."""

    total: int
    from_cache: int


def as_document(analysis: BillAnalysis, run: RunRecord, searches: Searches | None) -> str:
    """JSON: the analysis, and under `steps` what each call came to; money as decimal strings."""
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
    document: dict[str, Any] = analysis.model_dump(mode="json") | {"steps": steps}
    if searches is not None:
        document["searches"] = {"total": searches.total, "from_cache": searches.from_cache}
    return json.dumps(document, ensure_ascii=False, indent=2)


def show_analysis(analysis: BillAnalysis) -> None:
    """Summary, impacts with their quotes, what was left out, and the sources."""
    results.rule(f"[bold]{escape(analysis.bill_id)}[/], {escape(analysis.jurisdiction)}")
    results.print(escape(analysis.summary), highlight=False)
    if analysis.status == "insufficient_evidence":
        results.print("\n[yellow]insufficient evidence:[/] no impact could be supported by a quote", highlight=False)
    for number, impact in enumerate(analysis.impacts, start=1):
        sure = "" if impact.confidence is None else f" [dim](confidence {impact.confidence:.0%})[/]"
        results.print(f"\n[bold]{number}. {escape(impact.title)}[/]{sure}", highlight=False)
        results.print(Padding(escape(impact.description), (0, 0, 0, 3)), highlight=False)
        for citation in impact.citations:
            results.print(Padding(_quote(citation), (0, 0, 0, 3)), highlight=False)
    for claim in analysis.unsupported:
        results.print(f"\n[yellow]left out:[/] {escape(claim.claim)} [dim]({escape(claim.reason)})[/]", highlight=False)
    _show_sources(analysis)


def _quote(citation: Citation) -> str:
    # The bill's own line breaks mean nothing on this screen.
    return f"[dim]{escape(citation.source_id)}[/] [italic]“{escape(' '.join(citation.quote.split()))}”[/]"


def _show_sources(analysis: BillAnalysis) -> None:
    cited = {citation.source_id for citation in analysis.evidence}
    results.print("\n[bold]Sources[/] [dim](those in green are cited)[/]", highlight=False)
    for source in analysis.sources:
        style = "green" if source.id in cited else "dim"
        url = f" [dim]{escape(source.url)}[/]" if source.url else ""
        results.print(f"[{style}]{source.id:<5}[/]{escape(source.title)}{url}", highlight=False, soft_wrap=True)
    for failure in analysis.research_failures:
        results.print(
            f"[yellow]not found:[/] {escape(failure.query)} [dim]({escape(failure.reason)})[/]", highlight=False
        )


def show_steps(run: RunRecord, searches: Searches | None) -> None:
    """What each step cost and which model made it."""
    table = Table(
        box=None, pad_edge=False, title=f"Run {run.id}: {run.status}", title_justify="left", title_style="bold"
    )
    for heading in ("step", "model"):
        table.add_column(heading)
    for heading in ("tokens", "seconds", "cost"):
        table.add_column(heading, justify="right")
    for step in run.steps:
        table.add_row(
            step.key,
            escape(step.model or ""),
            "" if step.tokens_used is None else f"{step.tokens_used:,}",
            "" if step.latency_ms is None else f"{step.latency_ms / 1000:.1f}",
            "" if step.cost_usd is None else format_usd(step.cost_usd),
        )
    results.print()
    results.print(table)
    if searches is not None and searches.total:
        results.print(f"searches: {searches.total}, {searches.from_cache} of them from the cache", highlight=False)
    results.print(f"total cost: {format_usd(run.cost_usd)}", highlight=False)
