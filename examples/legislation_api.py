"""A FastAPI backend that analyses bills and says what it spent.

    python examples/legislation_api.py                              # sends one bill through the app, in this process
    uvicorn legislation_api:app --app-dir examples                  # the same as a server (pip install uvicorn)

Needs ZAI_API_KEY, which pays for models and search. Offline, run `llm-common fake-provider` in another terminal and
export the variables that it prints. Rows go to DATABASE_URL, or else to an embedded Postgres.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypedDict

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import BudgetExceededError, InvalidInputError, LLMCommonError, RunInProgressError
from llm_common.pipeline import BillAnalysis

MODELS = {"research": "zai/glm-5.3-flash", "generate": "zai/glm-5.3", "review": "zai/glm-5.2"}
STATUSES = {InvalidInputError: 422, BudgetExceededError: 402, RunInProgressError: 409}


class Bill(BaseModel):
    text: str
    jurisdiction: str


class CostsOfToday(BaseModel):
    total_usd: Decimal
    by_step: dict[str, Decimal]


class State(TypedDict):
    """What lives as long as the server: one of each, shared by all requests."""

    pipeline: AnalysisPipeline
    tracker: CostTracker


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[State]:
    async with Database.connect() as db:
        await db.migrate()
        tracker = CostTracker(db, daily_budget_usd=10, project="affordabot")
        async with LLMClient(cost_tracker=tracker) as llm, WebSearchClient(None, db, cost_tracker=tracker) as search:
            yield State(pipeline=AnalysisPipeline(llm, search, tracker, db), tracker=tracker)


app = FastAPI(title="Legislation", lifespan=lifespan)


@app.post("/bills/{bill_id}/analysis")
async def analyse(
    bill_id: str, bill: Bill, request: Request, idempotency_key: Annotated[str | None, Header()] = None
) -> BillAnalysis:
    """Takes minutes with real models. With an Idempotency-Key, asking again resumes, and pays for nothing twice."""
    pipeline: AnalysisPipeline = request.state.pipeline
    return await pipeline.run(bill_id, bill.text, bill.jurisdiction, MODELS, idempotency_key=idempotency_key)


@app.get("/costs/today")
async def costs_of_today(request: Request) -> CostsOfToday:
    tracker: CostTracker = request.state.tracker
    today = datetime.now(UTC).date()
    return CostsOfToday(
        total_usd=await tracker.get_daily_cost(today),
        by_step=await tracker.get_cost_breakdown(today, today, group_by="step"),
    )


@app.exception_handler(LLMCommonError)
async def explain(_: Request, error: LLMCommonError) -> JSONResponse:
    """Our messages say what to do, and have neither keys nor prompts in them."""
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
    return JSONResponse({"detail": str(error)}, status)


def main() -> None:
    bill = {"text": Path(__file__).with_name("bills").joinpath("ab-1234.txt").read_text(), "jurisdiction": "California"}
    with TestClient(app) as client:
        answer = client.post("/bills/AB-1234/analysis", json=bill, headers={"Idempotency-Key": "ab-1234-first"})
        print(answer.status_code, answer.json().get("summary") or answer.json())
        print("today:", client.get("/costs/today").json())


if __name__ == "__main__":
    main()
