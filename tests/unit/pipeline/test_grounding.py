"""What is left of a draft after its quotes and figures were looked up."""

from typing import Any

from llm_common.pipeline.grounding import CheckedDraft, check_draft
from llm_common.pipeline.legislation import LEGISLATION
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.schemas import Evidence, Source
from llm_common.pipeline.subject import Subject

BILL = "The department shall award grants of $2 million. Each district shall report within 30 days."
PAGE = Source(id="S1", title="Note", url="https://note.example/1", text="The fiscal office counts 500 schools in need.")


MODELS = {"research": "a", "generate": "b", "review": "c"}


def impact(*citations: tuple[str, str], **fields: Any) -> dict[str, Any]:
    return {
        "title": "Grants",
        "description": "The department awards grants.",
        "affected": None,
        "amount_usd": None,
        "confidence": None,
        **fields,
        "citations": [{"source": source, "quote": quote} for source, quote in citations],
    }


def checked(*impacts: dict[str, Any], summary: str = "It awards grants.", bill: str = BILL) -> CheckedDraft:
    answer = {"insufficient_evidence": False, "summary": summary, "confidence": 0.5, "impacts": impacts}
    subject = Subject.checked("AB-1", bill, "California", MODELS, max_rounds=1)
    evidence = Evidence(queries=("q",), found=(PAGE,), failures=())
    return check_draft(LEGISLATION.draft.model_validate(answer), PartContext.whole(subject, evidence))


def test_a_citation_says_where() -> None:
    """A kept citation has the source's own words, and offsets that give them again."""
    kept = checked(impact(("S1", "the fiscal  office counts 500 SCHOOLS"), description="500 schools are in need."))
    (citation,) = kept.claims[0].citations
    assert citation.quote == "The fiscal office counts 500 schools"
    assert (PAGE.text or "")[citation.start : citation.end] == citation.quote
    assert citation.url == PAGE.url
    assert not kept.unsupported


def test_a_misquote_drops_the_claim() -> None:
    """A claim whose only quote is not in its source is left out, with the nearest text for the next try."""
    kept = checked(impact(("BILL", "The department must award grants of $2 million")))
    assert kept.claims == ()
    assert "is not in BILL; the nearest text there is" in kept.unsupported[0].reason


def test_a_quote_from_another_source_does_not_count() -> None:
    """A quote has to be in the source that is named for it, and the source has to exist."""
    kept = checked(
        impact(("S1", "shall award grants of $2 million")), impact(("S9", "shall award grants of $2 million")), impact()
    )
    assert kept.claims == ()
    assert [claim.reason.partition(";")[0] for claim in kept.unsupported] == [
        "the quote “shall award grants of $2 million” is not in S1",
        "there is no source 'S9'",
        "it cites nothing",
    ]


def test_the_good_quote_of_two_is_enough() -> None:
    """A bad quote beside a good one is left out and told; the claim stays on the good one."""
    kept = checked(impact(("BILL", "shall award grants of $2 million"), ("BILL", "shall award prizes of gold")))
    assert [citation.quote for citation in kept.claims[0].citations] == ["shall award grants of $2 million"]
    assert len(kept.unsupported) == 1


def test_an_invented_figure_drops_the_claim() -> None:
    """A figure in title, description or affected that no quote has takes its claim with it."""
    quote = ("BILL", "The department shall award grants")
    for field in ("title", "description", "affected"):
        kept = checked(impact(quote, **{field: "Costs $15 million"}))
        assert kept.claims == (), field
        assert "$15,000,000" in kept.unsupported[0].reason


def test_an_invented_amount_is_left_out() -> None:
    """An amount_usd that no quote states becomes None, and is told; one that is stated stays."""
    quote = ("BILL", "shall award grants of $2 million")
    right, wrong = checked(impact(quote, amount_usd=2e6), impact(quote, amount_usd=15e6)).claims
    assert (right.model_dump()["amount_usd"], wrong.model_dump()["amount_usd"]) == (2e6, None)
    assert "15,000,000" in checked(impact(quote, amount_usd=15e6)).unsupported[0].reason


def test_a_summary_loses_its_invented_sentence() -> None:
    """A sentence of the summary with a figure that is nowhere is dropped, the others stay."""
    kept = checked(
        impact(("BILL", "The department shall award grants")),
        summary="It awards grants. It costs $9 billion. Reports follow.",
    )
    assert kept.summary == "It awards grants. Reports follow."
    assert kept.unsupported[0].claim == "It costs $9 billion."


def test_nothing_supported_leaves_nothing() -> None:
    """Without a single supported impact there is no summary and no confidence either."""
    kept = checked(impact(("BILL", "a wholly invented sentence")), summary="It costs $9 billion.")
    assert (kept.claims, kept.summary, kept.confidence) == ((), "", None)


AMENDED = "A person shall pay a fine of [$500] $5,000 to the state.\nMatter in [brackets] is old law to be omitted."


def test_struck_text_supports_no_figure() -> None:
    """A quote over struck text is shown as the bill has it, and supports what stands, not what is struck."""
    quote = ("BILL", "shall pay a fine of $5,000 to the state")
    new, old = checked(
        impact(quote, amount_usd=5000.0),
        impact(quote, amount_usd=500.0),
        bill=AMENDED,
        summary="The fine was $500. It grows.",
    ).claims
    assert new.citations[0].quote == "shall pay a fine of [$500] $5,000 to the state"
    assert (new.model_dump()["amount_usd"], old.model_dump()["amount_usd"]) == (5000.0, None)
    kept = checked(impact(("BILL", "shall pay a fine of [$500]"), description="A fine of $500."), bill=AMENDED)
    assert kept.claims == ()
    assert "$500: not in the quotes" in kept.unsupported[0].reason
    assert checked(impact(quote), bill=AMENDED, summary="The fine was $500. It grows.").summary == "It grows."


def test_a_refused_quote_says_why() -> None:
    """A quote that is too long or too short, or is struck out, is not just called missing."""
    long = BILL * 50
    reasons = [
        claim.reason
        for claim in checked(
            impact(("BILL", long)),
            impact(("BILL", "award grants")),
            impact(("BILL", "pay a fine of $500")),
            bill=AMENDED,
        ).unsupported
    ]
    assert f"has {len(long):,} characters, of which at most 4,000 are looked up" in reasons[0]
    assert "is too short to support anything" in reasons[1]
    assert "what is struck out" in reasons[2]
