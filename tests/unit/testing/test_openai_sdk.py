"""The real OpenAI SDK reads what the server writes."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Literal

import openai
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from llm_common.models import ToolCall, Usage
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply, TokenPrice

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello there"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Impact(BaseModel):
    title: str
    direction: Literal["up", "down"]
    amount: int | None


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.openai_url, api_key=provider.api_key, max_retries=0) as sdk:
        yield sdk


async def test_plain_answer(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """A whole answer has the text, the finish reason, the counted tokens and a request id."""
    answer = await client.chat.completions.create(model="some-model", messages=HELLO)
    assert answer.choices[0].message.content == 'You wrote: "hello there".'
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "some-model"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3 + 4, 7)
    assert answer.usage.total_tokens == 14
    assert answer._request_id == "req_000000000001"
    assert [r.outcome for r in provider.requests] == ["answered"]


async def test_stream_with_usage(client: AsyncOpenAI) -> None:
    """A stream's pieces join to the whole text; the usage comes last, in an event without choices."""
    stream = await client.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == 'You wrote: "hello there".'
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 14
    assert all(c.usage is None for c in chunks[:-1])


async def test_stream_without_usage(client: AsyncOpenAI) -> None:
    """Who does not ask for the usage of a stream does not get it."""
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    assert [chunk.usage async for chunk in stream if chunk.usage] == []


async def test_structured_answer(client: AsyncOpenAI) -> None:
    """With a strict schema the default answer is an instance of it."""
    answer = await client.chat.completions.parse(model="m", messages=HELLO, response_format=Impact)
    assert answer.choices[0].message.parsed == Impact(title="example", direction="up", amount=0)


async def test_forced_tool(client: AsyncOpenAI) -> None:
    """A tool that is forced is called, with arguments that fit its schema."""
    answer = await client.chat.completions.create(
        model="m", messages=HELLO, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}
    )
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "example"}')
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "stop"


async def test_streamed_tool_calls(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """Parallel tool calls arrive in pieces, each under its index, and the SDK puts them together again."""
    calls = (ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("call_b", "weather", '{"city": "Rome"}'))
    provider.script(Reply(text="Let me look.", tool_calls=calls))
    async with client.chat.completions.stream(model="m", messages=HELLO, tools=[WEATHER]) as stream:
        deltas = [event.chunk async for event in stream if event.type == "chunk"]
        final = await stream.get_final_completion()
    pieces = [t for d in deltas if d.choices for t in d.choices[0].delta.tool_calls or []]
    assert len([piece for piece in pieces if piece.index == 1]) > 2
    message = final.choices[0].message
    assert message.content == "Let me look."
    assert [(c.id, c.function.arguments) for c in message.tool_calls] == [(c.id, c.arguments) for c in calls]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_answer_function_sees_the_request() -> None:
    """An answer function gets the request in one shape, and its words reach the client."""
    seen: list[ChatRequest] = []

    def answer(request: ChatRequest) -> Answer:
        seen.append(request)
        return Answer(text=request.last_user_text.upper())

    messages = [{"role": "system", "content": "Be loud."}, {"role": "user", "content": "hey"}]
    async with (
        FakeProvider(answer) as provider,
        AsyncOpenAI(base_url=provider.openai_url, api_key=provider.api_key) as client,
    ):
        reply = await client.chat.completions.create(model="m", messages=messages, max_completion_tokens=9)
    assert reply.choices[0].message.content == "HEY"
    assert (seen[0].provider, seen[0].model, seen[0].max_tokens, seen[0].stream) == ("openai", "m", 9, False)
    assert seen[0].system_text == "Be loud."


async def test_max_tokens_cuts_the_answer(client: AsyncOpenAI) -> None:
    """No answer is longer than `max_tokens`, and one that was cut says so."""
    answer = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=2)
    assert answer.choices[0].message.content == "You wrot"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 2


async def test_scripted_usage_and_price() -> None:
    """Scripted tokens are reported in OpenAI's overlapping counts, and billed bucket by bucket."""
    price = TokenPrice(input=Decimal(2), cache_read=Decimal("0.2"), output=Decimal(8))
    usage = Usage(input_tokens=1000, cache_read_tokens=500, output_tokens=100, reasoning_tokens=40)
    async with FakeProvider(prices={"m": price}) as provider:
        provider.script(Reply(text="ok", usage=usage, answered_by="m-2026"))
        async with AsyncOpenAI(base_url=provider.openai_url, api_key=provider.api_key) as client:
            answer = await client.chat.completions.create(model="m", messages=HELLO)
    assert answer.model == "m-2026"
    assert answer.usage.prompt_tokens == 1500
    assert answer.usage.prompt_tokens_details.cached_tokens == 500
    assert answer.usage.completion_tokens_details.reasoning_tokens == 40
    assert provider.billed_usd == Decimal("0.0029") == provider.requests[0].cost_usd


async def test_embeddings(client: AsyncOpenAI) -> None:
    """Texts with words in common have vectors that are closer; packed and plain numbers are the same."""
    texts = ["the housing bill", "a housing bill", "fish soup"]
    packed = await client.embeddings.create(model="e", input=texts, dimensions=256)
    plain = await client.embeddings.create(model="e", input=texts, dimensions=256, encoding_format="float")
    vectors = [item.embedding for item in packed.data]
    assert vectors[0] == pytest.approx(plain.data[0].embedding, abs=1e-6)

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(vectors[0], vectors[1]) > 0.6
    assert likeness(vectors[0], vectors[2]) < 0.4
    assert packed.usage.prompt_tokens == 4 + 4 + 3


async def test_models() -> None:
    """The models that the server knows are listed, and nothing is billed for that."""
    async with FakeProvider(models={"b", "a"}) as provider:
        async with AsyncOpenAI(base_url=provider.openai_url, api_key=provider.api_key) as client:
            assert [model.id async for model in await client.models.list()] == ["a", "b"]
        async with AsyncOpenAI(base_url=provider.openrouter_url, api_key=provider.api_key) as client:
            assert [model.id async for model in await client.models.list()] == ["a", "b"]
        assert provider.requests[0].endpoint == "models"
        assert provider.billed_usd == 0


async def test_embedding_faults(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """Embeddings can be late, dear and faulty as well."""
    provider.script(
        Reply(cost_usd=Decimal("0.25"), delay=0.01), Fault.rate_limit(), Fault.empty_choices(), endpoint="embeddings"
    )
    assert len((await client.embeddings.create(model="e", input="text")).data) == 1
    assert provider.billed_usd == Decimal("0.25")
    with pytest.raises(openai.RateLimitError):
        await client.embeddings.create(model="e", input="text")
    with pytest.raises(ValueError, match="No embedding data received"):
        await client.embeddings.create(model="e", input="text")


async def test_reply_without_words(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """A reply that has no words of its own changes only how the usual answer is delivered."""
    provider.script(Reply(delay=0.01, headers={"x-served-by": "test"}, finish_reason="length"))
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
    choice = raw.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ('You wrote: "hello there".', "length")
    assert raw.headers["x-served-by"] == "test"


async def test_scripted_pieces(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """A test can say where a stream cuts the text, in the middle of a word too."""
    provider.script(Reply(text="caffè latte", pieces=("caf", "fè lat", "te")))
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    pieces = [chunk.choices[0].delta.content async for chunk in stream]
    assert [piece for piece in pieces if piece] == ["caf", "fè lat", "te"]


async def test_error_in_mid_stream(client: AsyncOpenAI, provider: FakeProvider) -> None:
    """An error event in a stream is raised by the SDK after the words that came before it."""
    provider.script(Fault.error_mid_stream(after_chunks=1, message="it broke"))
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    texts: list[str] = []
    with pytest.raises(openai.APIError, match="it broke"):
        texts.extend([chunk.choices[0].delta.content or "" async for chunk in stream])


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault.rate_limit(), openai.RateLimitError, "rate_limit_exceeded"),
        (Fault.payment_required(), openai.RateLimitError, "insufficient_quota"),
        (Fault.server_error(500), openai.InternalServerError, None),
        (Fault.server_error(503), openai.InternalServerError, None),
        (Fault.unauthorized(), openai.AuthenticationError, "invalid_api_key"),
        (Fault.not_found(), openai.NotFoundError, "model_not_found"),
        (Fault.context_window(), openai.BadRequestError, "context_length_exceeded"),
        (Fault.content_filter(), openai.BadRequestError, "invalid_prompt"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_error_classes(
    client: AsyncOpenAI, provider: FakeProvider, fault: Fault, error: type[openai.APIStatusError], code: str | None
) -> None:
    """Each error fault is what the SDK takes it for, with OpenAI's own code, and costs nothing."""
    provider.script(fault)
    with pytest.raises(error) as caught:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.code == code
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert [(r.outcome, r.cost_usd) for r in provider.requests] == [(f"fault:{fault.name}", None)]


@pytest.mark.parametrize("retry_after", [2, 0.5, "Sat, 21 Nov 2026 12:00:00 GMT"])
async def test_retry_after(client: AsyncOpenAI, provider: FakeProvider, retry_after: float | str) -> None:
    """A rate limit carries its Retry-After header, in seconds or as an HTTP date."""
    provider.script(Fault.rate_limit(retry_after, message="slow down"))
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.response.headers["retry-after"] == str(retry_after)


async def test_the_sdk_retries_and_succeeds(provider: FakeProvider) -> None:
    """Scripted faults are used up in order; then the provider answers."""
    provider.script(Fault.rate_limit(retry_after=0.01), Fault.reset_before_bytes())
    async with AsyncOpenAI(base_url=provider.openai_url, api_key=provider.api_key, max_retries=2) as client:
        answer = await client.chat.completions.create(model="m", messages=HELLO)
    assert answer.choices[0].finish_reason == "stop"
    assert [r.outcome for r in provider.requests] == ["fault:rate_limit", "fault:reset_before_bytes", "answered"]


async def test_wrong_key(provider: FakeProvider) -> None:
    """Another key than the provider's is refused, and is not kept in what was recorded."""
    async with AsyncOpenAI(base_url=provider.openai_url, api_key="sk-somebody-elses", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.code == "invalid_api_key"
    assert "sk-somebody-elses" not in repr(provider.requests) + str(caught.value)
    assert provider.requests[0].outcome == "refused:401"


async def test_openrouter_reports_the_cost(provider: FakeProvider) -> None:
    """OpenRouter's usage has the cost in it, the same that is billed, also at the end of a stream."""
    async with AsyncOpenAI(base_url=provider.openrouter_url, api_key=provider.api_key) as client:
        whole = await client.chat.completions.create(model="z-ai/glm-5.3", messages=HELLO)
        stream = await client.chat.completions.create(model="z-ai/glm-5.3", messages=HELLO, stream=True)
        last = [chunk async for chunk in stream][-1]
    costs = [Decimal(str(answer.usage.model_extra["cost"])) for answer in (whole, last)]
    assert costs == [request.cost_usd for request in provider.requests] == [Decimal("0.000035")] * 2
    assert whole.model_extra["provider"] == "Upstream"


async def test_openrouter_error_in_a_stream(provider: FakeProvider) -> None:
    """When the model behind OpenRouter dies, an error event ends the stream, and what came before is billed."""
    provider.script(Fault.error_mid_stream(after_chunks=2))
    texts: list[str] = []
    async with AsyncOpenAI(base_url=provider.openrouter_url, api_key=provider.api_key) as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="Upstream died"):
            texts.extend([chunk.choices[0].delta.content or "" async for chunk in stream])
    await provider.settled()
    assert provider.requests[0].chunks_sent == 2
    assert provider.requests[0].cost_usd == Decimal("0.000019")  # 7 tokens in, 3 out


async def test_zai_reasons_unless_told_not_to(provider: FakeProvider) -> None:
    """z.ai's models think first: it is shown, counted and billed as output, and disabling it stops that."""
    async with AsyncOpenAI(base_url=provider.zai_url, api_key=provider.api_key) as client:
        thinking = await client.chat.completions.create(model="glm-5.3", messages=HELLO)
        quick = await client.chat.completions.create(
            model="glm-5.3", messages=HELLO, extra_body={"thinking": {"type": "disabled"}}
        )
        starved = await client.chat.completions.create(model="glm-5.3", messages=HELLO, max_tokens=5)
    reasoning = thinking.choices[0].message.model_extra["reasoning_content"]
    assert "hello there" in reasoning
    assert thinking.usage.completion_tokens_details.reasoning_tokens == -(-len(reasoning) // 4)
    assert thinking.usage.completion_tokens == quick.usage.completion_tokens + -(-len(reasoning) // 4)
    assert "reasoning_content" not in quick.choices[0].message.model_extra
    assert (starved.choices[0].message.content, starved.choices[0].finish_reason) == ("", "length")


async def test_zai_streams_its_usage_unasked(provider: FakeProvider) -> None:
    """z.ai sends the usage with the finish reason, and the reasoning before the text."""
    async with AsyncOpenAI(base_url=provider.zai_url, api_key=provider.api_key) as client:
        stream = await client.chat.completions.create(model="glm-5.3", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 7
    assert "reasoning_content" in chunks[0].choices[0].delta.model_extra
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == 'You wrote: "hello there".'


async def test_zai_search_in_chat(provider: FakeProvider) -> None:
    """A chat with z.ai's search tool brings the results along, and pays for the search."""
    tool = {"type": "web_search", "web_search": {"enable": True, "search_query": "bill AB 1", "count": 3}}
    async with AsyncOpenAI(base_url=provider.zai_url, api_key=provider.api_key) as client:
        answer = await client.chat.completions.create(model="glm-5.3", messages=HELLO, tools=[tool])
    assert [result["refer"] for result in answer.model_extra["web_search"]] == ["ref_1", "ref_2", "ref_3"]
    assert provider.billed_usd > Decimal("0.01")


async def test_zai_has_no_json_schema(provider: FakeProvider) -> None:
    """z.ai passes a json_schema format over; in json_object mode the schema is read from the prompt."""
    schema = {"name": "impact", "schema": Impact.model_json_schema()}
    prompt = [{"role": "user", "content": f"Answer as JSON after this schema: {Impact.model_json_schema()!r}"}]
    prompt[0]["content"] = prompt[0]["content"].replace("'", '"')
    async with AsyncOpenAI(base_url=provider.zai_url, api_key=provider.api_key) as client:
        prose = await client.chat.completions.create(
            model="glm-5.3", messages=HELLO, response_format={"type": "json_schema", "json_schema": schema}
        )
        obeyed = await client.chat.completions.create(
            model="glm-5.3", messages=prompt, response_format={"type": "json_object"}
        )
    assert prose.choices[0].message.content == 'You wrote: "hello there".'
    assert Impact.model_validate_json(obeyed.choices[0].message.content).direction == "up"
