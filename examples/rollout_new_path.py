"""Moves summaries from the old path to a model, for three users in ten, with a way back.

    python examples/rollout_new_path.py
    USE_NEW_LLM_FRAMEWORK_PERCENTAGE=100 python examples/rollout_new_path.py
    USE_NEW_LLM_FRAMEWORK=false python examples/rollout_new_path.py              # everybody gets the old path

Needs ZAI_API_KEY; offline, run `llm-common fake-provider` in another terminal and export the variables that it
prints. The flag and what came of each call are in DATABASE_URL, or else in an embedded Postgres.
"""

import asyncio
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from llm_common import CostTracker, Database, LLMClient, Rollout

MODEL = "zai/glm-5.3-flash"
USERS = [f"user-{number}" for number in range(1, 21)]
BILL = Path(__file__).with_name("bills") / "hb-77.txt"


@dataclass(frozen=True)
class Summary:
    """`cost_usd` is what the guardrail compares the two paths by."""

    text: str
    path: str
    cost_usd: Decimal


async def summarise_as_before(bill: str) -> Summary:
    """The old path: the first sentence that obliges somebody."""
    sentences = re.split(r"(?<=\.)\s+", " ".join(bill.split()))
    return Summary(next((s for s in sentences if " shall " in s), sentences[0]), "old", Decimal(0))


async def summarise(llm: LLMClient, bill: str, user: str) -> Summary:
    """The new path."""
    question = "In one sentence: which duties does this act create for a manufacturer, and towards whom?"
    completion = await llm.complete(f"{bill}\n\n{question}", MODEL, max_tokens=2_000, step="summary", user_id=user)
    return Summary(completion.text, "new", completion.cost_usd)


async def main() -> None:
    bill = BILL.read_text()
    async with Database.connect() as db:
        await db.migrate()
        tracker = CostTracker(db, daily_budget_usd=1, project="rollout-example")
        async with (
            LLMClient(cost_tracker=tracker) as llm,
            Rollout(db, "USE_NEW_LLM_FRAMEWORK", percentage=30) as rollout,
        ):
            for user in USERS:
                summary = await rollout.run_or_fall_back(
                    user, new=partial(summarise, llm, bill, user), old=partial(summarise_as_before, bill)
                )
                print(f"{user:8} {summary.path}  {summary.text[:80]}")
            await rollout.flush()
            report = await rollout.report()
            print(f"{await rollout.percentage()} % of the users, {llm.daily_cost:f} USD today")
            print(f"new: {report.new.calls} calls, {report.new.errors} failed (the old path answered)")
            print(f"old: {report.old.calls} calls, {report.old.errors} failed")
            if report.flag.rolled_back_at is not None:
                print(f"rolled back: {report.flag.rollback_reason}; mend it, then `await rollout.reset(5)`")


if __name__ == "__main__":
    asyncio.run(main())
