"""The ways to call a model, each as its own documentation shows it, without retries."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from benchmarks.contestants import bare, libraries, ours
from benchmarks.contestants.task import Client

__all__ = ["BASE", "CONTESTANTS", "LITELLM", "OURS", "Contestant"]


@dataclass(frozen=True)
class Contestant:
    """`open(url)` gives its `Client`; `distribution` is what pip knows it by."""

    distribution: str
    open: Callable[[str], AbstractAsyncContextManager[Client]]


OURS: Final = "llm_common"
#: What every figure is compared with, and whom most of our hosts come from.
BASE: Final = "aiohttp"
LITELLM: Final = "litellm"

CONTESTANTS: Final[dict[str, Contestant]] = {
    OURS: Contestant("llm-common", ours.in_process),
    "llm_common, ledger in Postgres": Contestant("llm-common", ours.in_postgres),
    "llm_common, LiteLLM wire": Contestant("llm-common", ours.over_litellm),
    BASE: Contestant("aiohttp", bare.over_aiohttp),
    "httpx": Contestant("httpx", bare.over_httpx),
    "openai": Contestant("openai", libraries.openai),
    LITELLM: Contestant("litellm", libraries.litellm),
    "litellm Router": Contestant("litellm", libraries.litellm_router),
    "instructor over openai": Contestant("instructor", libraries.instructor_over_openai),
    "instructor over litellm": Contestant("instructor", libraries.instructor_over_litellm),
    "pydantic-ai": Contestant("pydantic-ai-slim", libraries.pydantic_ai),
    "langchain-openai": Contestant("langchain-openai", libraries.langchain),
}
