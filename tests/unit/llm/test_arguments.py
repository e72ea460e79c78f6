"""The arguments of a call: known ones pass, unknown ones are refused with what was meant, before anything is sent."""

import pytest

from llm_common.exceptions import InvalidInputError, UnknownArgumentError
from llm_common.llm.arguments import CompleteArguments, EmbedArguments, StreamArguments, question_of, refuse_unknown

SAID = "Is it?"


@pytest.mark.parametrize(
    ("method", "known"), [("complete", CompleteArguments), ("stream", StreamArguments), ("embed", EmbedArguments)]
)
def test_what_the_signature_names_is_taken(method, known):
    """Each name that a type checker allows is allowed at run time."""
    refuse_unknown(method, dict.fromkeys(known.__annotations__))


@pytest.mark.parametrize(
    ("method", "name", "meant"),
    [
        ("complete", "max_token", "Did you mean max_tokens=?"),
        ("complete", "temprature", "Did you mean temperature=?"),
        ("stream", "usr_id", "Did you mean user_id=?"),
        ("embed", "dimension", "Did you mean dimensions=?"),
        ("complete", "top_pp", "Did you mean top_p=?"),
        ("complete", "response_modell", "Did you mean response_model=?"),
    ],
)
def test_a_typo_is_an_error_that_names_what_was_meant(method, name, meant):
    """It is a TypeError, as for any Python function, and one of ours."""
    with pytest.raises(UnknownArgumentError, match=f"takes no {name}=") as raised:
        refuse_unknown(method, {name: 1})
    assert isinstance(raised.value, TypeError)
    assert meant in str(raised.value)
    assert "Nothing was sent" in str(raised.value)


def test_what_only_a_provider_knows_goes_into_extra():
    """A name like no other gets no guess, only the way to send it."""
    with pytest.raises(UnknownArgumentError, match=r"extra=\{'zqx': ...\}") as raised:
        refuse_unknown("complete", {"zqx": 1})
    assert "Did you mean" not in str(raised.value)
    question = question_of(SAID, None, {"top_p": 0.5, "extra": {"zqx": 1, "top_p": 0.7}, "step": "ask"}, None)
    assert question.extra == {"top_p": 0.7, "zqx": 1}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("api_key", "LLMClient(api_key=...)"),
        ("api_base", "LLMClient(base_url=...)"),
        ("base_url", "LLMClient(base_url=...)"),
        ("num_retries", "RetryPolicy"),
        ("max_retries", "RetryPolicy"),
        ("fallbacks", "models=[...]"),
        ("stream", "llm.stream(...)"),
        ("request_timeout", "timeout="),
    ],
)
def test_arguments_of_other_libraries_are_refused_with_their_place(name, place):
    """A key never travels in a body, and `stream=True` is no silent False."""
    with pytest.raises(UnknownArgumentError) as raised:
        refuse_unknown("complete", {name: "sk-a-secret-key-of-a-host"})
    assert place in str(raised.value)
    assert "sk-a-secret" not in str(raised.value)


def test_hedging_a_stream_is_refused_with_the_reason():
    """Two streams at once cannot be told apart."""
    with pytest.raises(InvalidInputError, match="hedge_after is for complete"):
        refuse_unknown("stream", {"hedge_after": 1.0})


@pytest.mark.parametrize("name", ["api_key", "base_url", "stream", "num_retries"])
def test_extra_is_no_way_around(name):
    """What belongs elsewhere does not go into the body through `extra` either."""
    with pytest.raises(UnknownArgumentError, match=name):
        refuse_unknown("complete", {"extra": {name: "x"}})
