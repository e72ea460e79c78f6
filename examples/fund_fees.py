"""What a fund takes from its investors, from its prospectus: each fee with the sentence that states it.

    python examples/fund_fees.py examples/prospectuses/avalon-index.txt --ticker AVTMX --country "New Avalon"

The pipeline is the one for bills, with another subject: a claim, four texts, and settings. Needs ZAI_API_KEY, which
pays for models and searches. Runs are stored in DATABASE_URL, or else in an embedded Postgres; the same prospectus is
not analysed twice.
"""

import asyncio
from argparse import ArgumentParser
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.pipeline import JUDGED, Analysis, AnalysisSpec, Claim, Prompts, Stated, StepSettings

MODELS = {"research": "zai/glm-5.3-flash", "generate": "zai/glm-5.3", "review": "zai/glm-5.2"}


class Fee(Claim):
    """`percent` and `dollars` are stated by a quote, or None; the pipeline sees to that."""

    name: str
    charged: Literal["each year", "on purchase", "on sale", "other"]
    condition: str | None = None
    percent: Annotated[float | None, Stated("percent")] = None
    dollars: Annotated[float | None, Stated("usd")] = None
    confidence: Annotated[float | None, JUDGED] = None


FEES = AnalysisSpec(
    name="fund-fees",
    result=Analysis[Fee],
    document="PROSPECTUS",
    prompts=Prompts(
        role="You read fund prospectuses for people who are about to invest their savings.",
        research="""\
Fund {subject}, sold in {context}. Write between 2 and 5 web search queries that would find what this fund charges \
elsewhere: its fact sheet, its expense ratio, changes of its fees.""",
        draft="""\
Fund {subject}, sold in {context}. List every fee that an investor may pay.
- percent is a rate that a quote states, dollars an amount that a quote states, else null.
- condition says who pays the fee or when it is waived, else null.""",
        review="""\
Fund {subject}, sold in {context}. Review the list of fees against the sources.
- missing_impacts: each fee, charge or expense in the sources that is not on the list.""",
    ),
    steps={"generate": StepSettings(temperature=0.1), "review": StepSettings(temperature=0.0, timeout=300)},
    max_searches=5,
)


async def fees(prospectus: str, ticker: str, country: str) -> Analysis[Fee]:
    key = f"fees:{ticker}:{sha256(prospectus.encode()).hexdigest()}"
    async with Database.connect() as db:
        await db.migrate()
        tracker = CostTracker(db, daily_budget_usd=20, project="prime-radiant-ai")
        async with LLMClient(cost_tracker=tracker) as llm, WebSearchClient(None, db, cost_tracker=tracker) as search:
            pipeline = AnalysisPipeline(llm, search, tracker, db, spec=FEES)
            return await pipeline.run(ticker, prospectus, country, MODELS, idempotency_key=key)


def show(analysis: Analysis[Fee]) -> None:
    print(f"{analysis.subject_id}: {analysis.summary}")
    for fee in analysis.claims:
        rates = (f"{fee.percent} %" if fee.percent is not None else "", f"${fee.dollars:,.2f}" if fee.dollars else "")
        print(f"\n{fee.name}, {fee.charged}: {' '.join(filter(None, rates)) or 'no rate stated'}")
        for cited in fee.citations:
            print(f"  {cited.source_id} {cited.start}-{cited.end}: “{' '.join(cited.quote.split())}”")
    for claim in analysis.unsupported:
        print(f"\nleft out: {claim.claim} ({claim.reason})")
    print(f"\nrun {analysis.run_id}, {analysis.cost_usd:f} USD")


def main() -> None:
    parser = ArgumentParser(description="The fees of a fund, each with the sentence that states it.")
    parser.add_argument("prospectus", type=Path)
    parser.add_argument("--ticker", required=True)
    parser.add_argument("--country", required=True)
    wanted = parser.parse_args()
    show(asyncio.run(fees(wanted.prospectus.read_text(), wanted.ticker, wanted.country)))


if __name__ == "__main__":
    main()
