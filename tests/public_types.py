"""What a host's type checker sees of the calls. `make check` reads it, nothing runs it."""

from typing import assert_type

from pydantic import BaseModel

from llm_common import LLMClient


class Bill(BaseModel):
    title: str


async def calls(llm: LLMClient) -> None:
    assert_type(await llm.chat("hello"), str)
    assert_type(await llm.chat("hello", response_model=Bill), Bill)
    assert_type((await llm.complete("hello")).parsed, None)
    assert_type((await llm.complete("hello", response_model=Bill)).parsed, Bill)


async def streams(llm: LLMClient) -> None:
    async with llm.stream("hello") as plain:
        assert_type([delta.text async for delta in plain], list[str])
    assert_type(plain.completion.parsed, None)
    async with llm.stream("hello", response_model=Bill) as typed:
        pass
    assert_type(typed.completion.parsed, Bill)
