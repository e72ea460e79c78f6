"""The libraries that hosts would call models with instead."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

from benchmarks.contestants.task import KEY, MESSAGES, MODEL, Analysis, Client

__all__ = [
    "instructor_over_litellm",
    "instructor_over_openai",
    "langchain",
    "litellm",
    "litellm_router",
    "openai",
    "pydantic_ai",
]

_BODY: Final[dict[str, Any]] = {"model": MODEL, "messages": MESSAGES}
_STREAMED: Final[dict[str, Any]] = {**_BODY, "stream": True, "stream_options": {"include_usage": True}}


@asynccontextmanager
async def openai(url: str) -> AsyncGenerator[Client]:
    async with import_module("openai").AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:

        async def call() -> str:
            return (await client.chat.completions.create(**_BODY)).choices[0].message.content

        async def structured() -> Analysis:
            return (await client.chat.completions.parse(**_BODY, response_format=Analysis)).choices[0].message.parsed

        async def stream() -> AsyncIterator[str]:
            async for piece in _pieces(await client.chat.completions.create(**_STREAMED)):
                yield piece

        yield Client(call, structured, stream)


@asynccontextmanager
async def litellm(url: str) -> AsyncGenerator[Client]:
    where = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY, "num_retries": 0}
    yield _client_of(import_module("litellm").acompletion, where)


@asynccontextmanager
async def litellm_router(url: str) -> AsyncGenerator[Client]:
    parameters = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY}
    deployments = [{"model_name": MODEL, "litellm_params": parameters}]
    router = import_module("litellm").Router(model_list=deployments, num_retries=0)
    yield _client_of(router.acompletion, {})


def _client_of(complete: Any, where: dict[str, Any]) -> Client:
    async def call() -> str:
        return (await complete(**{**_BODY, **where})).choices[0].message.content

    async def structured() -> Analysis:
        answer = await complete(**{**_BODY, **where}, response_format=Analysis)
        return Analysis.model_validate_json(answer.choices[0].message.content)

    async def stream() -> AsyncIterator[str]:
        async for piece in _pieces(await complete(**{**_STREAMED, **where})):
            yield piece

    return Client(call, structured, stream)


@asynccontextmanager
async def instructor_over_openai(url: str) -> AsyncGenerator[Client]:
    async with import_module("openai").AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as plain:
        client = import_module("instructor").from_openai(plain)

        async def structured() -> Analysis:
            return await client.chat.completions.create(**_BODY, response_model=Analysis, max_retries=0)

        yield Client(structured=structured)


@asynccontextmanager
async def instructor_over_litellm(url: str) -> AsyncGenerator[Client]:
    client = import_module("instructor").from_litellm(import_module("litellm").acompletion)
    where = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY}

    async def structured() -> Analysis:
        request = {**_BODY, **where, "response_model": Analysis, "max_retries": 0}
        return await client.chat.completions.create(**request)

    yield Client(structured=structured)


@asynccontextmanager
async def pydantic_ai(url: str) -> AsyncGenerator[Client]:
    provider = import_module("pydantic_ai.providers.openai").OpenAIProvider(base_url=url, api_key=KEY)
    model = import_module("pydantic_ai.models.openai").OpenAIChatModel(MODEL, provider=provider)
    make: Any = import_module("pydantic_ai").Agent
    system, user = (message["content"] for message in MESSAGES)
    plain, typed = make(model, system_prompt=system), make(model, system_prompt=system, output_type=Analysis)

    async def call() -> str:
        return (await plain.run(user)).output

    async def structured() -> Analysis:
        return (await typed.run(user)).output

    async def stream() -> AsyncIterator[str]:
        async with plain.run_stream(user) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                yield piece

    yield Client(call, structured, stream)


@asynccontextmanager
async def langchain(url: str) -> AsyncGenerator[Client]:
    make: Any = import_module("langchain_openai").ChatOpenAI
    model = make(model=MODEL, api_key=KEY, base_url=url, max_retries=0, stream_usage=True)
    typed = model.with_structured_output(Analysis)

    async def call() -> str:
        return (await model.ainvoke(MESSAGES)).content

    async def structured() -> Analysis:
        return await typed.ainvoke(MESSAGES)

    async def stream() -> AsyncIterator[str]:
        async for chunk in model.astream(MESSAGES):
            if chunk.content:
                yield chunk.content

    yield Client(call, structured, stream)


async def _pieces(chunks: AsyncIterable[Any]) -> AsyncIterator[str]:
    async for chunk in chunks:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            yield piece
