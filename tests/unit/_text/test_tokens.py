"""How long prompts are: the bound against real tokenizers, the count against known numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_common._text.tokens import FILE_TOKENS, IMAGE_TOKENS, count, estimate, fits, format_bound, likely, upper_bound

spec = find_spec("litellm")
assert spec is not None
assert spec.submodule_search_locations
VOCABULARIES = Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Callable[[str], int]]:
    """OpenAI's two vocabularies, and the one that Anthropic published, which normalizes its text first."""
    import tiktoken
    from tokenizers import Tokenizer

    count([{"role": "user", "content": "x"}])  # brings the vocabularies without the network
    count([{"role": "user", "content": "x"}], model="gpt-4")
    anthropic = Tokenizer.from_file(str(VOCABULARIES / "anthropic_tokenizer.json"))
    return {
        "o200k": lambda text: len(tiktoken.get_encoding("o200k_base").encode_ordinary(text)),
        "cl100k": lambda text: len(tiktoken.get_encoding("cl100k_base").encode_ordinary(text)),
        "anthropic": lambda text: len(anthropic.encode(text).ids),
    }


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@given(text=st.text())
@example(text="\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 400)
@example(text="\N{FAMILY}" * 300)
@example(text="<|endoftext|>" * 50)
def test_bound_is_never_below_a_tokenizers_count(text: str, tokenizers: dict[str, Callable[[str], int]]) -> None:
    """Whatever the text, no tokenizer makes more of it than the bound says, framing included."""
    bound = upper_bound(user(text))
    assert all(tokens(text) + 16 <= bound for tokens in tokenizers.values())


ORDINARY = [
    "The department shall appropriate $12,000,000 from the General Fund not later than June 30, 2027. ",
    "Wer vorsätzlich gegen § 4 verstößt, zahlt eine Geldbuße von höchstens 5.000 €. ",
    "本法律对违反第十二条的行为处以一百万元的罚款。",
    "Штраф составляет пять тысяч рублей за каждое нарушение. ",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_the_estimate_is_not_too_low_for_ordinary_text(text: str, tokenizers: dict[str, Callable[[str], int]]) -> None:
    """Whatever the script, a text that is fitted in by the estimate fits; and a guess in the middle is no more."""
    assert tokenizers["o200k"](text * 20) <= estimate(text * 20)
    assert likely(len((text * 20).encode())) <= estimate(text * 20)
    assert estimate(text, messages=3) == estimate(text) + 12


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@example(schema={"description": "é" * 5_000}, escaped=True)
@given(schema=st.dictionaries(st.text(max_size=10), json_values, max_size=4), escaped=st.booleans())
def test_bound_covers_tools_and_schemas_however_they_are_written(
    schema: dict[str, Any], escaped: bool, tokenizers: dict[str, Callable[[str], int]]
) -> None:
    """Providers write tools and schemas into the prompt anew, escaped or not: both fit the bound."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    written = json.dumps(tools, ensure_ascii=escaped)
    bound = upper_bound(user("x"), tools) + format_bound({"type": "json_schema", "json_schema": {"schema": schema}})
    assert all(2 * tokens(written) - 40 <= bound for tokens in tokenizers.values())


@given(st.lists(st.text(max_size=50), max_size=6))
def test_bound_grows_with_each_message(texts: list[str]) -> None:
    """A message never makes the prompt shorter, an empty one still has its frame."""
    bounds = [upper_bound([{"role": "user", "content": text} for text in texts[:n]]) for n in range(len(texts) + 1)]
    assert all(longer >= shorter + 16 for shorter, longer in pairwise(bounds))


@given(text=st.text(), name=st.text(max_size=30))
def test_count_is_within_the_bound(text: str, name: str) -> None:
    """The two never contradict each other, tool calls and parts of content included."""
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps({"q": text})}}
    messages = [
        {"role": "system", "content": text},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "text", "text": name}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": text},
    ]
    assert count(messages) <= upper_bound(messages)


def test_every_text_of_a_message_counts() -> None:
    """Names, tool calls, reasoning and cited text are in the prompt as well as the content."""
    long = "word " * 200
    plain = upper_bound(user("x"))
    for message in (
        {"role": "user", "content": "x", "name": long},
        {"role": "assistant", "content": "x", "reasoning_content": long},
        {"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": long}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": long}]}]},
        {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": long}}]},
        {"role": "user", "content": [{"type": "something_new", "payload": {"deep": [long]}}]},
    ):
        assert upper_bound([message]) >= plain + len(long) - 1
        assert count([message]) > 200


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2_000_000}}, IMAGE_TOKENS),
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, IMAGE_TOKENS),
        ({"type": "image", "source": {"type": "base64", "data": "A" * 2_000_000}}, IMAGE_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 2_000_000}}, FILE_TOKENS),
        ({"type": "document", "source": {"type": "base64", "data": "A" * 2_000_000}}, FILE_TOKENS),
        ({"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}, FILE_TOKENS),
    ],
)
def test_media_count_by_kind_not_by_size(part: dict[str, Any], tokens: int) -> None:
    """Pixels and pages cost tokens, base64 does not."""
    assert tokens <= upper_bound(user([part])) - upper_bound(user([])) <= tokens + 16


def test_audio_counts_by_length() -> None:
    """A minute at the thinnest bitrate, 8 kbit/s, is 80,000 characters and at most 1,920 tokens (32 a second)."""
    part = {"type": "input_audio", "input_audio": {"data": "A" * 80_000, "format": "mp3"}}
    assert 1_920 <= upper_bound(user([part])) < 80_000


def test_lone_surrogates_are_counted() -> None:
    """Text that cannot be encoded is no reason to fail before the provider has seen it."""
    assert upper_bound(user("\ud800" * 10)) >= 30
    assert count(user("\ud800" * 10)) > 0


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        # https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken: 6 tokens of text.
        ("gpt-4", 6),
        ("gpt-4o", 6),
    ],
)
def test_count_of_known_text(model: str, tokens: int) -> None:
    """`tiktoken is great!` is six tokens in both vocabularies, around it 3 for the prompt, 4 + 1 for the message."""
    assert count(user("tiktoken is great!"), model=model) == 3 + 4 + 1 + tokens


def test_count_chooses_the_vocabulary_of_the_model() -> None:
    """Older models count by the older vocabulary, which makes more of Hindi."""
    text = "नमस्ते, मेरा नाम जीपीटी है। " * 20
    assert count(user(text), model="openai/gpt-4-turbo") > 1.5 * count(user(text), model="openai/gpt-4o")


def test_count_of_special_tokens_is_that_of_their_text() -> None:
    """Text that looks like a control token is text, and no error."""
    assert count(user("<|endoftext|>")) > 3 + 4 + 1 + 1


@pytest.mark.parametrize("text", ["a" * 300_000, " " * 300_000, "é" * 300_000])
def test_count_of_runs_without_a_break(text: str) -> None:
    """Cut into pieces, a run costs at most a token more per piece."""
    assert 0 < count(user(text)) <= len(text) * 2


def test_fits() -> None:
    """A prompt may fill the window to the last token; an unknown window is not held against a model."""
    assert fits(100, 100)
    assert not fits(100, 101)
    assert fits(None, 10**9)


SCRIPT = """
import os, sys, json
def no_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(event)
sys.addaudithook(no_network)
{prepare}
from llm_common._text.tokens import count
before = dict(os.environ)
found = count([{{"role": "user", "content": "tiktoken is great!"}}])
print(json.dumps([found, os.environ == before, [m for m in ("litellm", "openai", "aiohttp") if m in sys.modules]]))
"""


def run(prepare: str = "", **environment: str) -> list[Any]:
    env = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(prepare=prepare)], check=True, capture_output=True, env=env
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_count_needs_neither_network_nor_sdk(tmp_path: Path) -> None:
    """The vocabulary is read from LiteLLM's files, and the host's environment is as it was."""
    assert run() == [14, True, []]
    assert run(TIKTOKEN_CACHE_DIR=str(tmp_path)) == [14, True, []]
    assert list(tmp_path.iterdir()) == []


def test_without_vocabulary_a_quarter_of_the_bytes() -> None:
    """Where LiteLLM is missing its files, the count is an estimate: 3 + 4 + 4/4 + 18/4, rounded up."""
    hide = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "litellm" else real(name, *rest)
"""
    assert run(hide) == [3 + 4 + 1 + 5, True, []]
