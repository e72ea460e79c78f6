"""This library, with all that it does around a request: route, price, reserve, breaker, settle."""

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.contestants.task import KEY, MESSAGES, MODEL, Analysis, Client

__all__ = ["in_postgres", "in_process", "over_litellm"]


@asynccontextmanager
async def in_process(url: str) -> AsyncGenerator[Client]:
    """Budgets and costs are kept in the process."""
    from llm_common.ledger.local import LocalLedger

    async with _client(url, cost_tracker=LocalLedger()) as client:
        yield client


@asynccontextmanager
async def in_postgres(url: str) -> AsyncGenerator[Client]:
    """Each call is reserved and settled in the Postgres of `DATABASE_URL`, under a budget."""
    from llm_common import CostTracker

    tracker = CostTracker(os.environ["DATABASE_URL"], daily_budget_usd="1000000")
    async with tracker, _client(url, cost_tracker=tracker) as client:
        yield client


@asynccontextmanager
async def over_litellm(url: str) -> AsyncGenerator[Client]:
    """The wire for providers that only LiteLLM knows."""
    from llm_common.ledger.local import LocalLedger

    async with _client(url, cost_tracker=LocalLedger(), wire="litellm") as client:
        yield client


@asynccontextmanager
async def _client(url: str, **settings: Any) -> AsyncGenerator[Client]:
    from llm_common import LLMClient

    async with LLMClient("openai", KEY, base_url=url, **settings) as llm:

        async def call() -> str:
            return await llm.chat(MESSAGES, MODEL)

        async def structured() -> Analysis:
            return await llm.chat(MESSAGES, MODEL, response_model=Analysis)

        async def stream() -> AsyncIterator[str]:
            async with llm.stream(MESSAGES, MODEL) as deltas:
                async for delta in deltas:
                    yield delta.text

        yield Client(call, structured, stream)
