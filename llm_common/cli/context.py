"""What a command works with: settings, database and clients, on the real providers or in the demo."""

import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from llm_common.cli.console import notes
from llm_common.cli.options import (
    DEMO_PROJECT,
    command_database,
    data_folder,
    demo_folder,
    key_variables,
    require_provider,
)
from llm_common.cost_tracker import CostTracker
from llm_common.db import Database
from llm_common.exceptions import ConfigurationError
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm.routing import resolve
from llm_common.llm_client import LLMClient
from llm_common.pipeline import AnalysisPipeline
from llm_common.search.providers.local import LocalProvider
from llm_common.search.providers.registry import SERVICES, advice, ready
from llm_common.settings import Settings
from llm_common.web_search import WebSearchClient

__all__ = ["NODE_PIPELINE", "CommandContext", "node_pipeline", "open_context", "open_demo"]

#: Where a node of a Ray cluster finds the pipeline of a command.
NODE_PIPELINE = "llm_common.cli.context:node_pipeline"

#: Which models a command uses where none is named: the first provider with a key decides. A quick one writes the
#: queries, a strong one the analysis; another one reviews where there is another.
_MODELS = MappingProxyType(
    {
        "zai": ("zai/glm-5.3-flash", "zai/glm-5.3", "zai/glm-5.2"),
        "openrouter": ("openrouter/z-ai/glm-5.3-flash", "openrouter/z-ai/glm-5.3", "openrouter/openai/gpt-6-luna"),
        "openai": ("openai/gpt-6-luna", "openai/gpt-6.1-sol", "openai/gpt-6-sol"),
        "anthropic": ("anthropic/claude-haiku-5-5", "anthropic/claude-sonnet-5-5", "anthropic/claude-opus-5-5"),
    }
)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """`models` are the defaults for research, generate and review; `offline`: the scripted provider answers."""

    settings: Settings
    db: Database
    llm: LLMClient
    search: WebSearchClient
    tracker: CostTracker
    models: dict[str, str]
    offline: bool

    def check_models(self, names: Iterable[str]) -> None:
        """Raise `ModelNotFoundError` for a name that no provider knows. Real ones say so themselves, but take money."""
        if self.offline:
            known = Settings(keys=self.settings.keys)
            for name in names:
                resolve(name, settings=known, catalogue=Catalogue())

    @property
    def pipeline(self) -> AnalysisPipeline:
        return AnalysisPipeline(self.llm, self.search, self.tracker, self.db, offline=self.offline)


@asynccontextmanager
async def open_context(database_url: str | None, data_dir: Path | None, *, what: str) -> AsyncGenerator[CommandContext]:
    """Open everything on the real providers, with the schema up to date; close it again.

    Raises `ConfigurationError` where nobody real would answer; `what` says what would be made up then.
    """
    settings = Settings.from_environment()
    require_provider(settings, what)
    models = _models(settings)
    if not (database_url or data_dir or settings.data_dir or settings.database_url):
        notes.print(f"no DATABASE_URL: the rows go to an embedded Postgres in {data_folder(None)}")
    async with AsyncExitStack() as stack:
        db, tracker, llm = await _opened(stack, command_database(database_url, data_dir), settings)
        search = await stack.enter_async_context(_search(settings, db, tracker))
        yield CommandContext(settings, db, llm, search, tracker, models, offline=False)


@asynccontextmanager
async def open_demo(database_url: str | None, data_dir: Path | None) -> AsyncGenerator[CommandContext]:
    """Open everything on a scripted provider.

    Its rows are in a project of their own and, unless a server is named, in a data folder of their own.
    """
    from llm_common.search.providers.http import HttpProvider
    from llm_common.testing import FakeProvider
    from llm_common.testing.analyst import answer_chat, answer_search

    async with AsyncExitStack() as stack:
        scripted = await stack.enter_async_context(FakeProvider(answer_chat, search_answer=answer_search))
        environment = {**os.environ, **scripted.environment()}
        settings = replace(Settings.from_environment(environment), project=DEMO_PROJECT, model=None)
        place = Database.connect(database_url) if database_url else Database.connect(data_dir=demo_folder(data_dir))
        notes.print(
            "[yellow]offline demo: scripted provider on loopback[/], nothing that it says is real; its rows are "
            f"{place.description} (set {key_variables()} to ask real models)"
        )
        db, tracker, llm = await _opened(stack, place, settings)
        provider = HttpProvider(SERVICES["zai"], settings.keys["zai"], settings.urls["zai"])
        # On another port each time, and yet the same: its answers stay good, and are never taken for z.ai's own.
        provider.identity = "scripted"
        search = await stack.enter_async_context(WebSearchClient(None, db, provider=provider, cost_tracker=tracker))
        yield CommandContext(settings, db, llm, search, tracker, _default_models("zai"), offline=True)


@asynccontextmanager
async def node_pipeline() -> AsyncGenerator[AnalysisPipeline]:
    """On a node of a Ray cluster, with the node's own settings: they must be there, nothing is made up instead."""
    if not os.environ.get("DATABASE_URL"):
        raise ConfigurationError("DATABASE_URL is not set on a node; set it there, to the database of the runs")
    async with open_context(None, None, what="an analysis on this node") as here:
        yield here.pipeline


async def _opened(
    stack: AsyncExitStack, database: Database, settings: Settings
) -> tuple[Database, CostTracker, LLMClient]:
    db = await stack.enter_async_context(database)
    await db.migrate()
    tracker = CostTracker(db, settings.daily_budget_usd, settings.monthly_budget_usd, project=settings.project)
    return db, tracker, await stack.enter_async_context(LLMClient(cost_tracker=tracker, settings=settings))


def _search(settings: Settings, db: Database, tracker: CostTracker) -> WebSearchClient:
    names = ready(settings)
    if not names:
        notes.print(f"no web search: set {advice()}; the analysis rests on the bill alone")
        return WebSearchClient(provider=LocalProvider([]), cost_tracker=tracker)
    return WebSearchClient(None, db, provider=names, cost_tracker=tracker)


def _models(settings: Settings) -> dict[str, str]:
    if settings.model:
        return dict.fromkeys(("research", "generate", "review"), settings.model)
    for provider in _MODELS:
        if provider in settings.keys:
            return _default_models(provider)
    raise ConfigurationError("no model is chosen for these providers: name one in LLM_COMMON_MODEL, as provider/model")


def _default_models(provider: str) -> dict[str, str]:
    return dict(zip(("research", "generate", "review"), _MODELS[provider], strict=True))
