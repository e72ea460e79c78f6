"""The offline analyst reads what it is sent; the pipeline's demo and tests rest on that."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_common.llm.structured.schema import output_spec
from llm_common.pipeline.grounding import CheckedDraft, check_draft
from llm_common.pipeline.legislation import LEGISLATION
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.prompts import generate_prompt, refine_prompt, research_prompt, review_prompt
from llm_common.pipeline.schemas import Draft, Evidence, Queries, ReviewCritique
from llm_common.pipeline.subject import Subject
from llm_common.testing import ChatRequest, SearchRequest
from llm_common.testing.analyst import answer_chat, answer_search

BILLS = sorted((Path(__file__).parents[3] / "examples" / "bills").glob("*.txt"))
NOTHING = Evidence(queries=(), found=(), failures=())


def ask(messages: list[dict[str, str]], schema: type[Any]) -> Any:
    request = ChatRequest(
        provider="openai", model="m", messages=tuple(messages), schema=output_spec(schema).schema, raw={}
    )
    answer = answer_chat(request)
    assert answer == answer_chat(request)
    return schema.model_validate_json(answer.text or "")


def context(text: str) -> PartContext:
    models = {"research": "a", "generate": "b", "review": "c"}
    return PartContext.whole(Subject.checked("B-1", text, "California", models, max_rounds=2), NOTHING)


def checked(about: PartContext, draft: Draft) -> CheckedDraft:
    return check_draft(draft, about)


@pytest.mark.parametrize("path", BILLS, ids=lambda path: path.stem)
def test_the_four_steps(path: Path) -> None:
    """Queries come from the bill, the first draft is found wanting, the refined one has all that was missed."""
    about = context(path.read_text())
    queries = ask(research_prompt(about), Queries).queries
    assert 3 <= len(queries) <= 12
    assert all(len(query) <= 70 and query.startswith("California") for query in queries)

    first = checked(about, ask(generate_prompt(about), LEGISLATION.draft))
    assert first.claims
    assert not first.unsupported
    critique = ask(review_prompt(about, first), ReviewCritique)
    assert not critique.passed
    assert critique.missing_impacts

    refined = checked(about, ask(refine_prompt(about, first, critique), LEGISLATION.draft))
    assert not refined.unsupported
    assert len(refined.claims) == len(first.claims) + len(critique.missing_impacts)
    assert ask(review_prompt(about, refined), ReviewCritique).passed


def test_what_binds_nobody_has_no_impact() -> None:
    """A text without a duty or an amount leaves insufficient evidence instead of an invention."""
    about = context("The weather was fine on the day of the session. Members spoke at length about it.")
    draft = ask(generate_prompt(about), LEGISLATION.draft)
    assert (draft.insufficient_evidence, draft.impacts) == (True, ())
    assert ask(review_prompt(about, checked(about, draft)), ReviewCritique).passed


def test_quotes_are_of_the_text() -> None:
    """A bill of one sentence is answered with that sentence."""
    about = context("The harbour board shall inspect every crane within 90 days, at a cost of $12.5 million.")
    (impact,) = ask(generate_prompt(about), LEGISLATION.draft).impacts
    assert impact.citations[0].source == "BILL"
    assert impact.citations[0].quote == about.text
    assert (impact.affected, impact.amount_usd) == ("The harbour board", 12_500_000.0)


def test_searches_find_pages_of_their_words() -> None:
    """Pages differ with the query, keep to the count and the domain, and say no number."""
    cranes = answer_search(SearchRequest(query="harbour crane inspection", count=2))
    schools = answer_search(SearchRequest(query="school heat", count=10, domain="edu.example"))
    assert (len(cranes), len(schools)) == (2, 3)
    assert all("harbour" in page["content"] for page in cranes)
    assert all(page["link"].startswith("https://edu.example/") for page in schools)
    assert not any(character.isdigit() for page in cranes for character in page["content"])
    assert answer_search(SearchRequest(query="school", count=3, domain="*.gov")) == []


def test_plain_chat_answers_from_the_text() -> None:
    """A question about a text is answered with the sentence of it that fits best; JSON mode gets JSON."""
    text = (
        "Cats sleep for most of the day. The harbour crane is inspected by the port authority every spring. "
        "Who inspects the harbour crane at the port?"
    )
    chat = ChatRequest(provider="openai", model="m", messages=({"role": "user", "content": text},))
    assert answer_chat(chat).text == "The harbour crane is inspected by the port authority every spring."
    short = ChatRequest(provider="openai", model="m", messages=({"role": "user", "content": "Hi"},), json_mode=True)
    assert isinstance(json.loads(answer_chat(short).text or ""), dict)
