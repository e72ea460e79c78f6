"""All commands, put together."""

from importlib.metadata import version
from typing import Annotated

import typer

from llm_common.cli import analyze, cache, compare, costs, database, doctor, profiles, provider, runs, worker
from llm_common.cli.console import results

__all__ = ["app"]

app = typer.Typer(
    name="llm-common",
    help="LLM calls for Python backends: routed, budgeted, recorded, cached, resumable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        results.print(version("llm-common"))
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


app.command()(analyze.analyze)
app.command()(compare.compare)
app.command()(costs.costs)
app.command()(database.migrate)
app.command()(doctor.doctor)
app.command()(profiles.profiles)
app.command()(provider.fake_provider)
app.command()(worker.worker)
app.add_typer(cache.app, name="cache")
app.add_typer(database.app, name="db")
app.add_typer(runs.app, name="runs")
