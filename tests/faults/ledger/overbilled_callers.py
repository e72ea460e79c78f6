"""One process that calls until its budget refuses: `python overbilled_callers.py DSN AT_ONCE BUDGET_USD`.

Says "ready", waits for a line, and prints how many calls were answered.
"""

import asyncio
import os
import sys

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError
from llm_common.llm.pricing import Price, Rates
from llm_common.llm_client import LLMClient

LISTED = Price(rates=Rates.per_million(input="1", output="10"))
MODEL = "openrouter/some/model"


async def main(dsn: str, at_once: int, budget_usd: str) -> None:
    answered = 0
    async with (
        CostTracker(dsn, budget_usd, project="p") as tracker,
        LLMClient(cost_tracker=tracker, prices={MODEL: LISTED}) as llm,
    ):

        async def call() -> None:
            nonlocal answered
            while True:
                try:
                    await llm.complete("Is it?", MODEL, max_tokens=100)
                except BudgetExceededError:
                    return
                answered += 1

        await llm.check("Is it?", MODEL)
        os.write(1, b"ready\n")
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(call() for _ in range(at_once)))
    os.write(1, f"{answered}\n".encode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
