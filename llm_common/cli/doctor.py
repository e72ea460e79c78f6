"""`llm-common doctor`: what is configured, what answers, what is missing, and what to do about it."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import typer
from rich.table import Table

from llm_common.cli.console import escape, results, write_json
from llm_common.cli.options import AsJson, DatabaseUrl, DataDir, command_database, has_no_provider
from llm_common.exceptions import DatabaseError, LLMCommonError
from llm_common.settings import PROVIDER_KEYS, Settings

if TYPE_CHECKING:
    from llm_common.db.migrate import MigrationState
    from llm_common.llm.profile import Profile

__all__ = ["doctor"]

_MARKS = {"ok": "[green]ok[/]", "off": "[yellow]off[/]", "bad": "[red]bad[/]"}
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` says what to do about it; empty where there is nothing to do."""

    subject: str
    state: Literal["ok", "off", "bad"]
    fact: str
    advice: str = ""


def doctor(json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Check keys, providers, profiles, database and schema.

    Nothing is paid; the embedded Postgres is started if it is in use.

    Exit code 1 if something is bad.
    """
    settings = Settings.from_environment()
    findings = asyncio.run(_examine(settings, database_url, data_dir))
    if json:
        write_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        advice = f"\n[dim]-> {escape(finding.advice)}[/]" if finding.advice else ""
        table.add_row(_MARKS[finding.state], finding.subject, escape(finding.fact) + advice)
    results.print(table)


async def _examine(settings: Settings, database_url: DatabaseUrl, data_dir: DataDir) -> list[Finding]:
    found = [
        Finding(
            "llm-common", "ok", f"{version('llm-common')} on Python {sys.version_info.major}.{sys.version_info.minor}"
        )
    ]
    found += await asyncio.gather(*(_provider(settings, name) for name in PROVIDER_KEYS))
    found.append(_search(settings))
    found += _profiles(settings)
    if has_no_provider(settings):
        found.append(Finding("models", "off", "no key is set: analyze plays a demo, other commands refuse to"))
    found += await _database(database_url, data_dir)
    return found


async def _provider(settings: Settings, name: str) -> Finding:
    variables = " or ".join(PROVIDER_KEYS[name])
    if name not in settings.keys:
        return Finding(name, "off", "no key", f"set {variables} to use it")
    from llm_common.cli.probing import probe

    answer = await probe(name, settings.urls.get(name), settings.keys[name], seconds=_PATIENCE_SECONDS)
    if answer.status in (401, 403):
        return Finding(
            name, "bad", f"{answer.url} refuses the key", f"check {variables}, and that the URL belongs to it"
        )
    if answer.status is None:
        return Finding(name, "bad", f"{answer.url} does not answer", "check the network and the base URL")
    return Finding(name, "ok", f"{answer.url} answers")


def _search(settings: Settings) -> Finding:
    from llm_common.search.providers.registry import advice, ready

    if names := ready(settings):
        return Finding("web search", "ok", ", then ".join(names))
    return Finding("web search", "off", "analyses rest on the bill alone", f"set {advice()} to search the web")


def _profiles(settings: Settings) -> list[Finding]:
    """Where profiles come from, and whether the models of their chains can be reached as they are named."""
    from llm_common.profiles import Profiles

    try:
        loaded = Profiles().current()
    except LLMCommonError as error:
        return [Finding("profiles", "bad", str(error), "set it right; llm-common profiles shows what holds")]
    file = "built in; no llm_common.toml or .yaml here" if loaded.file is None else str(loaded.file)
    overlay = "" if loaded.file is None else f", overlay {loaded.overlay or 'none'}"
    chains = [_chain(settings, profile) for profile in loaded.profiles.values() if profile.models]
    return [Finding("profiles", "ok", file + overlay), *chains]


def _chain(settings: Settings, profile: "Profile") -> Finding:
    from llm_common.llm.catalogue.catalogue import Catalogue
    from llm_common.llm.routing import resolve

    subject, catalogue = f"profile {profile.name}", Catalogue()
    try:
        for model in profile.models:
            resolve(model, settings=settings, catalogue=catalogue)
    except LLMCommonError as error:
        # Without any key nothing is asked anyway.
        return Finding(subject, "bad" if settings.keys else "off", str(error))
    return Finding(subject, "ok", ", then ".join(profile.models))


async def _database(database_url: DatabaseUrl, data_dir: DataDir) -> list[Finding]:
    try:
        async with command_database(database_url, data_dir) as db:
            reached = Finding("database", "ok", db.description)
            schema, open_tables = _schema(await db.migrations()), await db.open_tables()
    except DatabaseError as error:
        return [Finding("database", "bad", str(error))]
    except LLMCommonError as error:
        return [Finding("database", "bad", str(error), "choose another with --database-url or --data-dir")]
    kept = [
        Finding(
            f"public.{table}",
            "off",
            f"reached by {roles} through grants of before it was ours",
            f"to end that: SELECT public.llm_common_close_table('public.{table}')",
        )
        for table, roles in open_tables.items()
    ]
    return [reached, schema, *kept]


def _schema(migrations: "Sequence[MigrationState]") -> Finding:
    named = {
        state: ", ".join(migration.name for migration in migrations if migration.state == state)
        for state in ("hidden", "changed", "pending", "newer")
    }
    if named["hidden"]:
        fact = "it is there, but not visible to this role"
        return Finding("schema", "bad", fact, "connect as its owner, or: GRANT llm_common_app TO this role")
    if named["changed"]:
        return Finding("schema", "bad", f"applied with another content: {named['changed']}", "restore the files")
    if named["pending"]:
        return Finding("schema", "bad", f"waiting: {named['pending']}", "run: llm-common migrate")
    if named["newer"]:
        return Finding("schema", "ok", f"of a newer llm_common: {named['newer']}", "update this installation")
    return Finding("schema", "ok", "up to date")
