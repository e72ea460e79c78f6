"""What cannot be analysed is refused with a sentence that says why."""

import pytest

from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.subject import MAX_BILL_BYTES, Subject

MODELS = {"research": "a", "generate": "b", "review": "c"}


def checked(**changes: object) -> Subject:
    arguments: dict[str, object] = {
        "bill_id": "AB-1",
        "bill_text": "The board shall act.",
        "jurisdiction": "California",
        "models": MODELS,
        "max_rounds": 2,
        **changes,
    }
    return Subject.checked(**arguments)  # pyright: ignore[reportArgumentType] (wrong types are the point)


def test_refine_uses_the_model_of_generate() -> None:
    """Without a model of its own, refine has the generate step's; with one, that."""
    assert checked().models["refine"] == "b"
    assert checked(models={**MODELS, "refine": "d"}).models["refine"] == "d"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bill_id": "  "}, "bill_id is empty"),
        ({"bill_id": "a\nb"}, "bill_id must be"),
        ({"jurisdiction": ""}, "jurisdiction is empty"),
        ({"bill_text": " \n"}, "bill_text is empty"),
        ({"bill_text": b"bytes"}, "must be text"),
        ({"bill_text": "%PDF\x00\x01"}, "binary"),
        ({"bill_text": "\ufffd\x01\x02" * 50}, "binary"),
        ({"bill_text": "half \ud800 pair"}, "surrogate at 5"),
        ({"bill_text": "a" * (MAX_BILL_BYTES + 1)}, "10,000,001 bytes"),
        ({"bill_text": "ä" * (MAX_BILL_BYTES // 2 + 1)}, "10,000,002 bytes"),
        ({"models": {"research": "a", "review": "c"}}, "step 'generate'"),
        ({"models": {**MODELS, "review": ""}}, "step 'review'"),
        ({"models": {**MODELS, "polish": "x"}}, "unknown step 'polish'"),
        ({"max_rounds": -1}, "max_rounds"),
        ({"max_rounds": 99}, "max_rounds"),
    ],
)
def test_refused(change: dict[str, object], message: str) -> None:
    """Each bad argument is named."""
    with pytest.raises(InvalidInputError, match=message):
        checked(**change)


def test_the_largest_bill_is_taken() -> None:
    """Ten million bytes are a bill, one more are not."""
    assert checked(bill_text="a" * MAX_BILL_BYTES).text
