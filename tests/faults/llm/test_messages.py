"""What a host puts into messages and arguments is what arrives at the provider, over both wires."""

import base64
import json
from decimal import Decimal

import pytest

from llm_common._text.tokens import FILE_TOKENS, IMAGE_TOKENS
from llm_common.exceptions import BudgetExceededError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.request_encoding import encoded
from llm_common.llm.wire import Route, WireRequest
from llm_common.llm_client import LLMClient
from llm_common.models import Budget

PIXEL = base64.b64encode(b"\x89PNG not really").decode()
PAGE = base64.b64encode(b"%PDF-1.4 not really").decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
FILE = {"type": "file", "file": {"filename": "bill.pdf", "file_data": f"data:application/pdf;base64,{PAGE}"}}
MARKED = {"type": "text", "text": "The whole bill.", "cache_control": {"type": "ephemeral"}}
MARKED_MESSAGES = [{"role": "system", "content": [MARKED]}, {"role": "user", "content": "Go"}]
CALLED = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
CONVERSATION = [
    {"role": "system", "content": [MARKED]},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE, FILE]},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "c1", "content": "a pixel"},
]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}},
    }
]
PLACES = [
    ("openai/gpt-6-luna", "direct"),
    ("openai/gpt-6-luna", "litellm"),
    ("openrouter/openai/gpt-4o-mini", "direct"),
    ("zai/glm-5.3", "direct"),
    ("anthropic/claude-sonnet-5-5", "litellm"),
]


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


async def sent(provider, model, wire, messages=CONVERSATION, **arguments):
    """The body that arrives for a conversation."""
    async with LLMClient(cost_tracker=LocalLedger(), wire=wire) as llm:
        await llm.complete(messages, model, max_tokens=5000, **arguments)
    return provider.requests[-1].body


@pytest.mark.parametrize(("model", "wire"), PLACES)
async def test_images_files_and_tool_results_arrive(provider, model, wire):
    """The bytes of both, the call and its result, in the provider's own shape."""
    body = await sent(provider, model, wire, tools=TOOLS)
    written = json.dumps(body)
    assert PIXEL in written
    assert PAGE in written
    assert "a pixel" in written
    if model.startswith("anthropic"):
        blocks = [block for message in body["messages"] for block in message["content"] if isinstance(block, dict)]
        kinds = {block["type"]: block for block in blocks}
        assert kinds["image"]["source"]["data"] == PIXEL
        assert kinds["document"]["source"]["data"] == PAGE
        assert kinds["tool_use"]["input"] == {"at": 1}
        assert kinds["tool_result"]["tool_use_id"] == "c1"
    else:
        assert body["messages"][1]["content"][1:] == [IMAGE, FILE]
        assert body["messages"][2]["tool_calls"] == [CALLED]
        assert body["messages"][3]["tool_call_id"] == "c1"


@pytest.mark.parametrize(("model", "wire"), PLACES)
async def test_cache_markers_arrive(provider, model, wire):
    """They go through as they are, also to a server of one's own that passes them on."""
    body = await sent(provider, model, wire, MARKED_MESSAGES)
    assert "cache_control" in json.dumps(body)


def test_openai_itself_gets_no_cache_markers():
    """It knows none, and a chain may ask it after Anthropic; the caller's own messages stay as they were."""
    for base_url, marked in (("https://api.openai.com/v1", False), ("https://openrouter.ai/api/v1", True)):
        route = Route(asked="m", provider="openai", name="m", wire="direct", base_url=base_url, api_key="k")
        tool = {**TOOLS[0], "cache_control": {"type": "ephemeral"}}
        request = WireRequest(route=route, messages=tuple(MARKED_MESSAGES), tools=(tool,))
        body = encoded(request, stream=False).decode()
        assert ("cache_control" in body) == marked
        assert "The whole bill." in body
    assert "cache_control" in MARKED


@pytest.mark.parametrize(("model", "wire"), PLACES[:3])
async def test_reasoning_effort_and_unknown_arguments_arrive(provider, model, wire):
    """What we do not know is the provider's business."""
    body = await sent(provider, model, wire, "Go", reasoning_effort="low", seed=7, extra_body={"of_my_own": 1})
    assert (body["reasoning_effort"], body["seed"], body["of_my_own"]) == ("low", 7, 1)


async def test_anthropic_is_told_to_think_in_its_own_words(provider):
    """Reasoning effort becomes its thinking."""
    body = await sent(provider, "anthropic/claude-haiku-4-5", "litellm", "Go", reasoning_effort="low")
    assert body["thinking"]["type"] == "enabled"
    body = await sent(provider, "zai/glm-5.3", "direct", "Go", thinking={"type": "disabled"})
    assert body["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(("part", "tokens"), [(IMAGE, IMAGE_TOKENS), (FILE, FILE_TOKENS)], ids=["image", "file"])
async def test_budgets_reserve_for_images_and_files(provider, part, tokens):
    """An image is small in text and dear in tokens: the reservation has the most that it can count."""
    dollars = Decimal(tokens) * Decimal("0.0000014")  # zai/glm-5.3: 1.40 per million
    llm = LLMClient(cost_tracker=LocalLedger((Budget(dollars * Decimal("0.9")),)))
    with pytest.raises(BudgetExceededError):
        await llm.complete([{"role": "user", "content": [part]}], "zai/glm-5.3", max_tokens=1)
    assert provider.requests == []


async def test_a_format_of_the_callers_own_is_reserved_for(provider):
    """`response_format` goes through like any argument, and its schema is part of the prompt that is paid."""
    schema = {"type": "object", "properties": {}, "description": "x" * 100_000}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    llm = LLMClient(cost_tracker=LocalLedger((Budget(Decimal("0.1")),)))
    with pytest.raises(BudgetExceededError):
        await llm.complete("Go", "zai/glm-5.3", max_tokens=1, response_format=wanted)
    assert provider.requests == []
