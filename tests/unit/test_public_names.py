import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import llm_common

MODULES = [
    "llm_common",
    "llm_common.llm_client",
    "llm_common.web_search",
    "llm_common.cost_tracker",
    "llm_common.conversation_memory",
    "llm_common.profiles",
    "llm_common.rollout",
    "llm_common.legislation_search",
    "llm_common.finance_search",
    "llm_common.pipeline",
    "llm_common.exceptions",
    "llm_common.models",
    "llm_common.testing",
    "llm_common.db",
]

DOORS = [
    "llm_common.web_search",
    "llm_common.conversation_memory",
    "llm_common.rollout",
    "llm_common.legislation_search",
    "llm_common.finance_search",
]

HEAVY = ("litellm", "openai", "instructor", "supabase", "psycopg", "aiohttp", "httpx", "pydantic", "ray")


@pytest.mark.parametrize("module", MODULES)
def test_every_exported_name_exists(module):
    """What `__all__` promises can be imported."""
    imported = import_module(module)
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


@pytest.mark.parametrize("module", DOORS)
def test_a_door_shows_what_it_defines_and_no_more(module):
    """What a module defines without an underscore is in its `__all__`: nothing is public by oversight."""
    imported = import_module(module)
    defined: set[str] = set()
    for node in ast.parse(Path(imported.__file__ or "").read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined.update(target.id for target in targets if isinstance(target, ast.Name))
    assert {name for name in defined if not name.startswith("_")} <= set(imported.__all__)
    assert not [name for name in imported.__all__ if name.startswith("_")]


def test_the_import_paths_of_the_hosts_work():
    """The import lines that hosts already have keep working."""
    lines = """
from llm_common import LLMClient, WebSearchClient, CostTracker, ConversationMemory, AnalysisPipeline
from llm_common import Database, Rollout
from llm_common.llm_client import LLMClient, AllModelsFailed, BudgetExceededError
from llm_common.web_search import WebSearchClient, SearchResult
from llm_common.cost_tracker import CostTracker, CostMetrics
from llm_common.exceptions import LLMError, BudgetExceededError, RateLimitError, AllModelsFailed, SearchError
from llm_common import Profiles
from llm_common.profiles import Profile, ProfileChoice, Profiles, Task, select_profile
"""
    exec(lines, {})


def test_importing_the_client_loads_no_sdk():
    """`import llm_common; llm_common.LLMClient` loads nothing heavy."""
    program = f"import sys, llm_common; llm_common.LLMClient; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    """A typo is not an import of something else."""
    with pytest.raises(AttributeError, match="LLMCleint"):
        _ = llm_common.LLMCleint
