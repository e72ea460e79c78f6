"""`llm-common doctor`: what is configured, what answers, what is missing, and what to do about it."""

import asyncio
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import typer
from rich.markup import escape
from rich.table import Table

from llm_common.cli.console import results
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.exceptions import DatabaseError, LLMCommonError
from llm_common.settings import PROVIDER_KEYS, Settings

if TYPE_CHECKING:
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


def doctor(database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Check keys, providers, profiles, database and schema.

    Nothing is paid; the embedded Postgres is started if it is in use.

    Exit code 1 if something is bad.
    """
    settings = Settings.from_environment()
    findings = asyncio.run(_examine(settings, database_url, data_dir))
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        advice = f"\n[dim]→ {finding.advice}[/]" if finding.advice else ""
        table.add_row(_MARKS[finding.state], finding.subject, finding.fact + advice)
    results.print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


async def _examine(settings: Settings, database_url: DatabaseUrl, data_dir: DataDir) -> list[Finding]:
    found = [
        Finding(
            "llm-common", "ok", f"{version('llm-common')} on Python {sys.version_info.major}.{sys.version_info.minor}"
        )
    ]
    found += await asyncio.gather(*(_provider(settings, name) for name in PROVIDER_KEYS))
    found.append(_search(settings))
    found += _profiles(settings)
    if not settings.keys:
        found.append(Finding("models", "off", "no key is set: commands run against the scripted provider on loopback"))
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
        return [Finding("profiles", "bad", escape(str(error)), "set it right; llm-common profiles shows what holds")]
    file = "built in; no llm_common.toml or .yaml here" if loaded.file is None else str(loaded.file)
    overlay = "" if loaded.file is None else f", overlay {loaded.overlay or 'none'}"
    chains = [_chain(settings, profile) for profile in loaded.profiles.values() if profile.models]
    return [Finding("profiles", "ok", escape(file + overlay)), *chains]


def _chain(settings: Settings, profile: "Profile") -> Finding:
    from llm_common.llm.catalogue.catalogue import Catalogue
    from llm_common.llm.routing import resolve

    subject, catalogue = f"profile {profile.name}", Catalogue()
    try:
        for model in profile.models:
            resolve(model, settings=settings, catalogue=catalogue)
    except LLMCommonError as error:
        # Without any key nothing is asked anyway.
        return Finding(subject, "bad" if settings.keys else "off", escape(str(error)))
    return Finding(subject, "ok", escape(", then ".join(profile.models)))


async def _database(database_url: DatabaseUrl, data_dir: DataDir) -> list[Finding]:
    from llm_common.db import Database

    try:
        async with Database.connect(database_url, data_dir=data_dir) as db:
            waiting = [state.name for state in await db.migrations() if state.state != "applied"]
            reached = Finding("database", "ok", repr(db).strip("<>"))
    except DatabaseError as error:
        return [Finding("database", "bad", str(error))]
    except LLMCommonError as error:
        return [Finding("database", "bad", str(error), "choose another with --database-url or --data-dir")]
    if waiting:
        return [reached, Finding("schema", "bad", f"waiting: {', '.join(waiting)}", "run: llm-common migrate")]
    return [reached, Finding("schema", "ok", "up to date")]
