"""What a command works with: settings, database and clients, on the real providers or on the scripted one."""

import os
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from llm_common.cli.console import notes
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

__all__ = ["NODE_PIPELINE", "Workplace", "node_pipeline", "workplace"]

#: Where a node of a Ray cluster finds the pipeline of a command.
NODE_PIPELINE = "llm_common.cli.context:node_pipeline"

#: Which models a command uses where none is named: the first provider with a key decides. A quick one writes the
#: queries, a strong one the analysis; another one reviews where there is another.
_MODELS = MappingProxyType(
    {
        "openrouter": ("openrouter/z-ai/glm-5.3-flash", "openrouter/z-ai/glm-5.3", "openrouter/openai/gpt-6-luna"),
        "zai": ("zai/glm-5.3-flash", "zai/glm-5.3", "zai/glm-5.2"),
        "openai": ("openai/gpt-6-luna", "openai/gpt-6.1-sol", "openai/gpt-6-sol"),
        "anthropic": ("anthropic/claude-haiku-5-5", "anthropic/claude-sonnet-5-5", "anthropic/claude-opus-5-5"),
    }
)


@dataclass(frozen=True, slots=True)
class Workplace:
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
async def workplace(database_url: str | None, data_dir: Path | None) -> AsyncGenerator[Workplace]:
    """Open everything, with the schema up to date; close it again."""
    async with AsyncExitStack() as stack:
        settings = Settings.from_environment()
        offline = not settings.keys
        if offline:
            settings = await _scripted(stack)
        db = await stack.enter_async_context(Database.connect(database_url, data_dir=data_dir))
        await db.migrate()
        tracker = CostTracker(db, settings.daily_budget_usd, settings.monthly_budget_usd, project=settings.project)
        llm = await stack.enter_async_context(LLMClient(cost_tracker=tracker, settings=settings))
        search = await stack.enter_async_context(_search(settings, db, tracker, offline=offline))
        yield Workplace(settings, db, llm, search, tracker, _models(settings), offline)


@asynccontextmanager
async def node_pipeline() -> AsyncGenerator[AnalysisPipeline]:
    """On a node of a Ray cluster, with the node's own settings: they must be there, nothing is made up instead."""
    if not os.environ.get("DATABASE_URL"):
        raise ConfigurationError("DATABASE_URL is not set on a node; set it there, to the database of the runs")
    if not Settings.from_environment().keys:
        raise ConfigurationError("no provider's key is set on a node; set there what is set where the command runs")
    async with workplace(None, None) as here:
        yield here.pipeline


async def _scripted(stack: AsyncExitStack) -> Settings:
    from llm_common.testing import FakeProvider
    from llm_common.testing.analyst import answer_chat, answer_search

    provider = await stack.enter_async_context(FakeProvider(answer_chat, search_answer=answer_search))
    notes.print(
        "[yellow]offline demo: scripted provider on loopback[/] (set ZAI_API_KEY, OPENROUTER_API_KEY, "
        "OPENAI_API_KEY or ANTHROPIC_API_KEY to ask real models)",
        highlight=False,
    )
    return Settings.from_environment({**os.environ, **provider.environment()})


def _search(settings: Settings, db: Database, tracker: CostTracker, *, offline: bool) -> WebSearchClient:
    if offline:
        from llm_common.search.providers.http import HttpProvider

        provider = HttpProvider(SERVICES["zai"], settings.keys["zai"], settings.urls["zai"])
        # On another port each time, and yet the same: its answers stay good, and are never taken for z.ai's own.
        provider.identity = "scripted"
        return WebSearchClient(None, db, provider=provider, cost_tracker=tracker)
    names = ready(settings)
    if not names:
        notes.print(f"no web search: set {advice()}; the analysis rests on the bill alone", highlight=False)
        return WebSearchClient(provider=LocalProvider([]), cost_tracker=tracker)
    return WebSearchClient(None, db, provider=names, cost_tracker=tracker)


def _models(settings: Settings) -> dict[str, str]:
    if settings.model:
        return dict.fromkeys(("research", "generate", "review"), settings.model)
    provider = next(name for name in _MODELS if name in settings.keys)
    # The scripted provider serves all of them; z.ai's names are the ones of the first host.
    quick, strong, second = _MODELS["zai" if len(settings.keys) == len(_MODELS) else provider]
    return {"research": quick, "generate": strong, "review": second}
