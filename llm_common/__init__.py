"""LLM calls for Python backends: routed, budgeted, recorded, cached, resumable, on the Postgres you already have.

The public names are loaded on first use (PEP 562), so that `import llm_common` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_common.conversation_memory import ConversationMemory
    from llm_common.cost_tracker import CostMetrics, CostTracker
    from llm_common.db import Database
    from llm_common.llm_client import LLMClient
    from llm_common.pipeline import AnalysisPipeline
    from llm_common.profiles import Profiles
    from llm_common.rollout import Rollout
    from llm_common.web_search import SearchResult, WebSearchClient

__all__ = [
    "AnalysisPipeline",
    "ConversationMemory",
    "CostMetrics",
    "CostTracker",
    "Database",
    "LLMClient",
    "Profiles",
    "Rollout",
    "SearchResult",
    "WebSearchClient",
]

_HOMES = {
    "AnalysisPipeline": "pipeline",
    "ConversationMemory": "conversation_memory",
    "CostMetrics": "cost_tracker",
    "CostTracker": "cost_tracker",
    "Database": "db",
    "LLMClient": "llm_client",
    "Profiles": "profiles",
    "Rollout": "rollout",
    "SearchResult": "web_search",
    "WebSearchClient": "web_search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'llm_common' has no attribute {name!r}")
    value = getattr(import_module(f"llm_common.{_HOMES[name]}"), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
