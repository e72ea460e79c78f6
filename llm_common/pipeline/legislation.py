"""The built-in subject: bills, and the impacts they would have."""

from typing import Annotated, ClassVar, Final

from pydantic import field_validator

from llm_common.pipeline.claims import JUDGED, Claim, Stated
from llm_common.pipeline.schemas import AnalysisResult, share
from llm_common.pipeline.spec import AnalysisSpec, Prompts

__all__ = ["LEGISLATION", "BillAnalysis", "Impact"]


class Impact(Claim):
    """A claim whose quotes exist and whose figures all occur in them. `amount_usd` is a figure of its quotes."""

    title: str
    description: str
    affected: str | None = None
    amount_usd: Annotated[float | None, Stated("usd")] = None
    confidence: Annotated[float | None, JUDGED] = None

    _confidence_is_a_share = field_validator("confidence")(share)


class BillAnalysis(AnalysisResult):
    """The analysis of a bill: its `impacts`, and what every `AnalysisResult` has."""

    subject_field: ClassVar[str] = "bill_id"
    context_field: ClassVar[str] = "jurisdiction"
    claims_field: ClassVar[str] = "impacts"

    bill_id: str
    jurisdiction: str
    impacts: tuple[Impact, ...]


LEGISLATION: Final = AnalysisSpec(
    name="legislation",
    result=BillAnalysis,
    document="BILL",
    prompts=Prompts(
        role="You analyse legislation for people who have to rely on the result.",
        research="""\
Bill {subject}, jurisdiction {context}. Write between 3 and 12 web search queries that would find facts about \
what this bill would change: costs, who is affected and how many, current law, official fiscal notes, comparable laws \
elsewhere.""",
        draft="""\
Bill {subject}, jurisdiction {context}. Analyse the impacts of the bill.
- amount_usd is a dollar amount that one of the impact's quotes states, else null. affected says who is affected, else \
null.""",
        review="""\
Bill {subject}, jurisdiction {context}. Review the draft against the sources, as an editor who will be blamed for \
its mistakes.
- missing_impacts: each important obligation, cost, deadline, penalty or right in the sources that no impact covers.""",
    ),
)
