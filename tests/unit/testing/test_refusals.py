"""What the real services refuse is refused here, in their own words."""

from typing import Any

import aiohttp
import pytest

from llm_common.testing import FakeProvider

USER = [{"role": "user", "content": "hi"}]
CHAT = {"model": "m", "messages": USER}
SEARCH = {"search_query": "ab 1", "search_engine": "search-prime"}
LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "t", "parameters": LOOSE}}


def _format(**json_schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": json_schema}}


async def _post(
    http: aiohttp.ClientSession, provider: FakeProvider, path: str, body: Any, **headers: str
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {provider.api_key}", **headers}
    async with http.post(provider.url + path, json=body, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].tool_call_id"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_object"}}, "messages"),
        (_format(schema=LOOSE), "response_format.json_schema.name"),
        (_format(name="no spaces", schema=LOOSE), "response_format.json_schema.name"),
        (_format(name="loose", schema=LOOSE, strict=True), "response_format"),
    ],
)
async def test_openai_bad_requests(
    http: aiohttp.ClientSession, provider: FakeProvider, change: dict[str, Any], parameter: str
) -> None:
    """OpenAI answers 400 and names the parameter."""
    status, answer = await _post(http, provider, "/v1/chat/completions", {**CHAT, **change})
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == parameter
    assert provider.requests[0].outcome == "refused:400"
    assert provider.billed_usd == 0


@pytest.mark.parametrize(
    "change",
    [
        {"search_query": None},
        {"search_query": ""},
        {"search_engine": None},
        {"search_engine": "google"},
        {"count": 0},
        {"count": 51},
        {"count": "ten"},
        {"search_domain_filter": ["a.gov", "b.gov"]},
        {"search_recency_filter": "1w"},
        {"request_id": "short"},
    ],
)
async def test_zai_bad_searches(http: aiohttp.ClientSession, provider: FakeProvider, change: dict[str, Any]) -> None:
    """z.ai answers 400 with code 1214 as text."""
    status, answer = await _post(http, provider, "/api/paas/v4/web_search", {**SEARCH, **change})
    assert (status, answer["error"]["code"]) == (400, "1214")
    assert provider.requests[0].endpoint == "search"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'Unexpected role "system"'),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "must be non-empty"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"name": "t"}]}, "input_schema: Field required"),
        ({"tool_choice": {"type": "tool", "name": "t"}}, "while providing tools"),
        ({"output_format": {"type": "json_schema", "schema": LOOSE}}, "additionalProperties"),
    ],
)
async def test_anthropic_bad_requests(
    http: aiohttp.ClientSession, provider: FakeProvider, change: dict[str, Any], message: str
) -> None:
    """Anthropic answers 400 in its own shape, with a request id."""
    headers = {"x-api-key": provider.api_key, "anthropic-version": "2023-06-01"}
    body = {**CHAT, "max_tokens": 10, **change}
    status, answer = await _post(http, provider, "/v1/messages", body, **headers)
    assert status == 400
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    assert message in answer["error"]["message"]
    assert answer["request_id"].startswith("req_")


@pytest.mark.parametrize("choice", ["required", "none", {"type": "function", "function": {"name": "t"}}])
@pytest.mark.parametrize(("path", "model"), [("/api/paas/v4", "glm-5.3"), ("/api/v1", "z-ai/glm-5.3")])
async def test_glm_lets_nobody_force_a_tool(
    http: aiohttp.ClientSession, provider: FakeProvider, path: str, model: str, choice: Any
) -> None:
    """The GLM models take no tool_choice but "auto", at z.ai and through OpenRouter."""
    body = {"model": model, "messages": USER, "tools": [TOOL]}
    refused, answer = await _post(http, provider, f"{path}/chat/completions", {**body, "tool_choice": choice})
    accepted, _ = await _post(http, provider, f"{path}/chat/completions", {**body, "tool_choice": "auto"})
    assert (refused, answer["error"]["message"], accepted) == (400, "Tool choice must be auto", 200)


UNKNOWN_MODEL = {**CHAT, "model": "no-such-model"}


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [
        ("/v1/chat/completions", UNKNOWN_MODEL, 404, {"code": "model_not_found"}),
        ("/api/v1/chat/completions", UNKNOWN_MODEL, 400, {"code": 400}),
        ("/api/paas/v4/chat/completions", UNKNOWN_MODEL, 400, {"code": "1211"}),
        ("/v1/messages", {**UNKNOWN_MODEL, "max_tokens": 1}, 404, {"type": "not_found_error"}),
        ("/v1/embeddings", {"model": "no-such-model", "input": "x"}, 404, {"code": "model_not_found"}),
        ("/v1/embeddings", {"model": "e", "input": []}, 400, {"param": "input"}),
        ("/v1/nothing", {}, 404, {"message": "Invalid URL (POST /v1/nothing)"}),
        ("/api/v1/nothing", {}, 404, {"code": 404}),
        ("/v1/messages/nothing", {}, 404, {"type": "not_found_error"}),
        ("/v1/models", {}, 405, {"code": "method_not_supported"}),
        ("/nothing", {}, 404, {"message": "Invalid URL (POST /nothing)"}),
        ("/api/nothing", {}, 404, {"message": "Not Found"}),
    ],
)
async def test_unknown_models_and_paths(
    http: aiohttp.ClientSession, provider: FakeProvider, path: str, body: Any, status: int, expected: dict[str, Any]
) -> None:
    """What does not exist is refused with each provider's status and code."""
    headers = {"x-api-key": provider.api_key, "anthropic-version": "2023-06-01"} if "messages" in path else {}
    got, answer = await _post(http, provider, path, body, **headers)
    assert got == status
    assert expected.items() <= answer["error"].items()


async def test_zai_unknown_path(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """The hyphen of the first libraries leads to z.ai's gateway, whose `error` is a text."""
    status, answer = await _post(http, provider, "/api/paas/v4/web-search", SEARCH)
    assert (status, answer["error"], answer["path"]) == (404, "Not Found", "/v4/web-search")
    assert provider.requests[0].endpoint == "unknown"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", {"code": "invalid_api_key"}),
        ("/api/v1/chat/completions", {"code": 401}),
        ("/api/paas/v4/chat/completions", {"code": "1000"}),
        ("/api/paas/v4/web_search", {"code": "1000"}),
        ("/v1/messages", {"type": "authentication_error"}),
    ],
)
async def test_wrong_and_missing_keys(
    http: aiohttp.ClientSession, provider: FakeProvider, path: str, expected: dict[str, Any]
) -> None:
    """A wrong key and no key at all are refused with 401, before anything else is looked at."""
    headers = {"Authorization": "Bearer wrong", "x-api-key": "wrong"}
    async with http.post(provider.url + path, data=b"{", headers=headers) as wrong:
        assert wrong.status == 401
        assert expected.items() <= (await wrong.json())["error"].items()
    async with http.post(provider.url + path, json=CHAT) as missing:
        assert missing.status == 401
    assert "wrong" not in repr(provider.requests)


async def test_anthropic_version_is_required(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Anthropic wants to know the version of its API."""
    headers = {"x-api-key": provider.api_key}
    status, answer = await _post(http, provider, "/v1/messages", {**CHAT, "max_tokens": 1}, **headers)
    assert (status, answer["error"]["message"]) == (400, "anthropic-version: header is required")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/chat/completions", "/api/paas/v4/web_search"])
@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b""])
async def test_bodies_that_are_no_json(
    http: aiohttp.ClientSession, provider: FakeProvider, path: str, data: bytes
) -> None:
    """A body that is no JSON object is a bad request, not a crash."""
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    async with http.post(provider.url + path, data=data, headers=headers) as response:
        assert response.status == 400
        assert "error" in await response.json()


async def test_coding_plan_key(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """z.ai's coding-plan key works on its own address, and has no balance (429, 1113) on the general one."""
    headers = {"Authorization": f"Bearer {provider.zai_coding_key}"}
    coding_path = provider.zai_coding_url.removeprefix(provider.url)
    coding, _ = await _post(http, provider, f"{coding_path}/chat/completions", CHAT, **headers)
    general, answer = await _post(http, provider, "/api/paas/v4/chat/completions", CHAT, **headers)
    assert (coding, general, answer["error"]["code"]) == (200, 429, "1113")
