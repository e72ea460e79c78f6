import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.llm.dialect import Dialect, Refusal, dialect_of, is_openai, refusal_in

VLLM = "This model's maximum context length is 8192 tokens"


@pytest.mark.parametrize(
    ("wording", "refusal"),
    [
        (
            f"'max_tokens' or 'max_completion_tokens' is too large: 32768. {VLLM} and your request has 12 input tokens "
            "(32768 > 8192 - 12).",
            Refusal(window=8192, prompt_tokens=12),
        ),
        (
            f"{VLLM}. However, you requested 32780 tokens (12 in the messages, 32768 in the completion).",
            Refusal(window=8192, prompt_tokens=12),
        ),
        (
            f"{VLLM}. However, you requested 8000 output tokens and your prompt contains at least 193 input tokens, "
            "for a total of at least 8193 tokens.",
            Refusal(window=8192, prompt_tokens=193, at_least=True),
        ),
        (
            "You passed 12 input tokens and requested 32768 output tokens. However, the model's context length is only "
            "8192 tokens, resulting in a maximum input length of 0 tokens",
            Refusal(window=8192, prompt_tokens=12),
        ),
        (  # SGLang
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of "
            "32780 tokens: 12 tokens from the input messages and 32768 tokens for the completion.",
            Refusal(window=8192, prompt_tokens=12),
        ),
        (  # TGI
            "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 12 `inputs` tokens and 32768 `max_new_tokens`",
            Refusal(window=4096, prompt_tokens=12),
        ),
        ("Requested tokens (32780) exceed context window of 512", Refusal(window=512)),
        ("the request exceeds the available context size (4096 tokens), try increasing it", Refusal(window=4096)),
        (  # OpenRouter
            "This endpoint's maximum context length is 131,072 tokens. However, you requested about 213402 tokens "
            "(212378 of text input, 1024 in the output).",
            Refusal(window=131_072, prompt_tokens=212_378),
        ),
        (
            "max_tokens is too large: 32768. This model supports at most 16384 completion tokens, whereas you provided "
            "32768.",
            Refusal(output_limit=16_384),
        ),
        ("max_tokens: 32768 > 8192, which is the maximum allowed number of output tokens", Refusal(output_limit=8192)),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", Refusal(output_limit=8192)),
        ("`max_tokens` must be less than or equal to `8192`, the maximum value", Refusal(output_limit=8192)),
        (
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            Refusal(parameter="max_tokens"),
        ),
        ("body.stream_options.include_usage: Extra inputs are not permitted", Refusal(parameter="stream_options")),
        ("prompt is too long: 213402 tokens > 200000 maximum", None),
        ("stream_options must be an object", None),
        ("Rate limit reached", None),
        ("", None),
    ],
)
def test_what_refusals_say(wording: str, refusal: Refusal | None):
    """vLLM, SGLang, TGI, llama.cpp, OpenRouter, OpenAI, Anthropic, DeepSeek and Groq, in their own words."""
    assert refusal_in(wording) == refusal


@given(st.text())
def test_any_wording_is_read(wording: str):
    """What teaches nothing is None, never an exception."""
    refusal = refusal_in(wording)
    assert refusal is None or isinstance(refusal.lesson(Dialect(), 100), Dialect)


@given(st.integers(2, 200_000), st.integers(1, 200_000), st.integers(1, 400_000))
def test_the_same_prompt_fits_exactly(window: int, prompt: int, bound: int):
    """Prompt and answer together fill the window; a prompt that is too long itself teaches nothing."""
    dialect = Refusal(window=window, prompt_tokens=prompt).lesson(Dialect(), bound)
    if prompt >= window:
        assert dialect == Dialect()
    else:
        assert dialect.room(bound, 32_768) == min(32_768, window - prompt)


def test_a_prompt_of_unknown_length_is_guessed_twice():
    """A third of what it could have been at most; where that was too little, all of it; then it is given up."""
    refusal = Refusal(window=1_000, prompt_tokens=600, at_least=True)
    once = refusal.lesson(Dialect(), 900)
    assert once.room(900, 32_768) == 700
    twice = refusal.lesson(once, 900)
    assert twice.room(900, 32_768) == 100
    assert Refusal(window=800).lesson(refusal.lesson(Dialect(), 900), 900).window == 1_000


def test_another_prompt_is_guessed_by_the_one_that_was_measured():
    """At least 1,024 tokens are left: an answer that is cut too early would look like any other."""
    dialect = Refusal(window=8_192, prompt_tokens=100).lesson(Dialect(), 400)
    assert dialect.room(4_000, 32_768) == 8_192 - 1_000
    assert dialect.room(400_000, 32_768) == 1_024
    assert dialect.room(4_000, 50) == 50


@pytest.mark.parametrize(
    ("base_url", "own"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://us.api.openai.com:443/v1", True),
        ("https://API.OpenAI.com/v1", True),
        ("https://name.openai.azure.com/openai/v1", True),
        ("https://name.services.ai.azure.com/openai/v1", True),
        ("https://name.openai.azure.us/openai/v1", True),
        ("https://api.openai.com.example/v1", False),
        ("https://api.openai.com@evil.example/v1", False),
        ("https://evilapi.openai.com/v1", False),
        ("https://evil.example/api.openai.com", False),
        ("http://localhost:8000/v1", False),
        (None, False),
    ],
)
def test_openai_is_known_by_its_host(base_url: str | None, own: bool):
    """Compared as a whole, so that no other address passes for it."""
    assert is_openai(base_url) is own
    assert dialect_of(base_url).max_tokens == ("max_completion_tokens" if own else "max_tokens")
