"""Another subject: a claim of one's own, checked like any other, and a spec that is refused where it cannot work."""

import pickle
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from llm_common.exceptions import InvalidInputError, PipelineError
from llm_common.llm.structured.schema import output_spec
from llm_common.pipeline import JUDGED, LEGISLATION, Analysis, AnalysisSpec, Claim, Prompts, Stated, StepSettings
from llm_common.pipeline.grounding import CheckedDraft, check_draft
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.prompts import generate_prompt, research_prompt
from llm_common.pipeline.schemas import AnalysisResult, Evidence
from llm_common.pipeline.subject import Subject, check_spec

MODELS = {"research": "a", "generate": "b", "review": "c"}
TEXT = "The rate is 4.5 percent for joint filers. A filer owes $300 at least, and has 12 months to pay. Filers sign."


class Detail(BaseModel):
    note: str
    months: int | None = None


class Rule(Claim):
    name: str
    percent: Annotated[float | None, Stated("percent")] = None
    least: Annotated[int, Stated("usd")] = 300
    months: int | None = None
    sure: Annotated[float | None, JUDGED] = None
    binding: bool = True
    details: tuple[Detail, ...] = ()


PROMPTS = Prompts(role="You read tax rules.", research="{subject} in {context}?", draft="List rules.", review="Check.")
RULES = AnalysisSpec(name="tax-rules", result=Analysis[Rule], document="LAW", prompts=PROMPTS)


def context(spec: AnalysisSpec[AnalysisResult] = RULES) -> PartContext:
    subject = Subject.checked("Tax {Code}", TEXT, "New Avalon", MODELS, max_rounds=1, spec=spec)
    return PartContext.whole(subject, Evidence(queries=(), found=(), failures=()))


def checked(quote: str = "A filer owes $300 at least", **fields: Any) -> CheckedDraft:
    claim = {"name": "Rule", "least": 300, **fields, "citations": [{"source": "LAW", "quote": quote}]}
    answer = {"insufficient_evidence": False, "summary": "", "confidence": None, "claims": [claim]}
    return check_draft(RULES.draft.model_validate(answer), context())


def test_a_claim_of_ones_own_is_checked() -> None:
    """What the quotes state stays, as the host's own type, with the place of each quote."""
    quote = "4.5 percent for joint filers. A filer owes $300 at least, and has 12 months to pay"
    (rule,) = checked(quote, percent=4.5, months=12, sure=0.7, details=[{"note": "Joint filers.", "months": 12}]).claims
    assert type(rule) is Rule
    assert (rule.percent, rule.least, rule.months, rule.sure) == (4.5, 300, 12, 0.7)
    (cited,) = rule.citations
    assert TEXT[cited.start : cited.end] == quote
    assert cited.source_id == "LAW"


@pytest.mark.parametrize(
    ("fields", "field"), [({"percent": 5}, "percent"), ({"percent": 300}, "percent"), ({"months": 13}, "months")]
)
def test_a_number_that_is_not_stated_is_left_out(fields: dict[str, Any], field: str) -> None:
    """It becomes None, also where the quote has the value in another unit, and the result says so."""
    kept = checked(**fields)
    assert getattr(kept.claims[0], field) is None
    assert field in kept.unsupported[0].reason


@pytest.mark.parametrize(
    "fields",
    [
        {"least": 301},  # it cannot be None
        {"name": "Pay $400"},
        {"details": [{"note": "In 18 months."}]},
        {"details": [{"note": "Soon.", "months": 18}]},
    ],
)
def test_a_claim_cannot_keep_an_invented_figure(fields: dict[str, Any]) -> None:
    """A figure in any text, in a nested field, or in a number that must be there takes its claim with it."""
    kept = checked(**fields)
    assert kept.claims == ()
    assert kept.unsupported


def test_the_model_is_asked_for_quotes() -> None:
    """The drafting schema has the host's fields, with quotations where the result has citations."""
    schema = output_spec(RULES.draft).schema
    claim = schema["$defs"]["DraftRule"]
    assert set(claim["properties"]) == {"citations", *Rule.model_fields}
    assert set(schema["$defs"]["Quotation"]["properties"]) == {"source", "quote"}
    assert "claims" in schema["properties"]


def test_the_prompts_have_the_words_of_the_spec() -> None:
    """Role, task, document and claims are the spec's; a name with braces is only a name."""
    research, draft = research_prompt(context()), generate_prompt(context())
    assert research[0]["content"].startswith("You read tax rules.")
    assert "Task: <subject>Tax {Code}</subject> in <context>New Avalon</context>?" in research[1]["content"]
    assert '<source id="LAW" title="Tax {Code}"' in draft[1]["content"]
    assert "leave claims empty" in draft[1]["content"]


def test_settings_of_a_step() -> None:
    """Refine has the settings of generate unless it has its own; what is None is left to the client."""
    spec = AnalysisSpec(
        name="t",
        result=Analysis[Rule],
        prompts=PROMPTS,
        steps={"generate": StepSettings(temperature=0.1, max_tokens=9, extra={"reasoning_effort": "high"})},
    )
    assert spec.settings("refine").as_arguments() == {
        "temperature": 0.1,
        "max_tokens": 9,
        "extra": {"reasoning_effort": "high"},
    }
    assert spec.settings("review").as_arguments() == {"extra": {}}


class Bare(AnalysisResult):
    claims: tuple[str, ...]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Tax Rules"}, "'Tax Rules' must be small letters"),
        ({"document": "S1"}, "'S1' must be capital letters"),
        ({"document": "the law"}, "must be capital letters"),
        ({"steps": {"polish": StepSettings()}}, "unknown step 'polish'"),
        ({"max_searches": 0}, "max_searches must be at least 1"),
        ({"result": Bare}, "Bare.claims must be a tuple"),
    ],
)
def test_a_spec_that_cannot_work(change: dict[str, Any], message: str) -> None:
    """It is refused when it is made, with what is wrong."""
    with pytest.raises(InvalidInputError, match=message):
        AnalysisSpec(**{"name": "t", "result": Analysis[Rule], "prompts": PROMPTS, **change})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"extra": {"model": "x"}}, "extra has 'model'"),
        ({"extra": {"stop": object()}}, "extra is not JSON"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    """They are refused when they are made, not when a run is half done."""
    with pytest.raises(InvalidInputError, match=message):
        StepSettings(**settings)


def test_a_spec_travels() -> None:
    """Pickled for another process it is the same version, and later changes of a host's dictionary change nothing."""
    steps = {"review": StepSettings(extra={"seed": 1})}
    spec = AnalysisSpec(name="t", result=Analysis[Rule], prompts=PROMPTS, steps=steps)
    steps["generate"] = StepSettings(temperature=1.0)
    assert spec.settings("generate") == StepSettings()
    assert pickle.loads(pickle.dumps(LEGISLATION)).version == LEGISLATION.version


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "role is empty"), ("About {bill_id}", "uses {bill_id}"), ("A { brace", "single brace"), ("{}", "uses {}")],
)
def test_a_prompt_that_cannot_work(text: str, message: str) -> None:
    """An empty prompt and a placeholder that nobody fills are told at once."""
    with pytest.raises(InvalidInputError, match=message):
        Prompts(role=text, research="r", draft="d", review="v")


def test_a_run_of_another_spec() -> None:
    """It is not taken up, and named."""
    check_spec("r", "tax-rules", RULES)
    with pytest.raises(PipelineError, match="run r is of the spec 'legislation', not of 'tax-rules'"):
        check_spec("r", "legislation", RULES)
