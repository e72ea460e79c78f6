"""z.ai's web search."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from llm_common.exceptions import InvalidInputError
from llm_common.testing import FakeProvider, Fault, Reply, SearchRequest

BODY = {"search_query": "housing bill AB 1234", "search_engine": "search-prime"}


async def _search(http: aiohttp.ClientSession, provider: FakeProvider, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    async with http.post(f"{provider.zai_url}/web_search", json={**BODY, **more}, headers=headers) as response:
        assert response.status == 200
        return await response.json()


async def test_default_results(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """The default is ten results, made of the query's words, in z.ai's shape; a search costs a cent."""
    answer = await _search(http, provider)
    assert set(answer) == {"id", "created", "search_result"}
    assert len(answer["search_result"]) == 10
    keys = {"title", "content", "link", "media", "icon", "refer", "publish_date"}
    assert all(set(result) == keys for result in answer["search_result"])
    assert all("housing bill" in result["title"].lower() for result in answer["search_result"])
    assert "22小时前" in {result["publish_date"] for result in answer["search_result"]}
    assert provider.billed_usd == Decimal("0.01")


async def test_count_and_domain(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Count and domain are honoured; a wildcard is no domain and finds nothing."""
    answer = await _search(http, provider, count=3, search_domain_filter="leginfo.example.gov")
    assert [r["link"].split("/")[2] for r in answer["search_result"]] == ["leginfo.example.gov"] * 3
    assert (await _search(http, provider, search_domain_filter="*.gov"))["search_result"] == []


async def test_the_same_search_has_the_same_results(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Asked twice, the default answer is the same."""
    first, second = await _search(http, provider), await _search(http, provider)
    assert first["search_result"] == second["search_result"]


async def test_search_answer_function(http: aiohttp.ClientSession) -> None:
    """A search answer function gets the checked arguments."""
    seen: list[SearchRequest] = []

    def answer(request: SearchRequest) -> Sequence[Mapping[str, Any]]:
        seen.append(request)
        return [{"title": "t", "link": "https://example.org"}]

    async with FakeProvider(search_answer=answer) as provider:
        got = await _search(http, provider, count=2, search_recency_filter="oneWeek")
    assert got["search_result"] == [{"title": "t", "link": "https://example.org"}]
    assert (seen[0].query, seen[0].count, seen[0].recency) == ("housing bill AB 1234", 2, "oneWeek")


async def test_scripted_results(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A list answers a search and waits for one, while a text waits for a chat."""
    provider.script("for a chat", [{"title": "scripted"}], Reply(results=({"title": "dear"},), cost_usd=Decimal("0.5")))
    assert (await _search(http, provider))["search_result"] == [{"title": "scripted"}]
    assert (await _search(http, provider))["search_result"] == [{"title": "dear"}]
    assert provider.unused == 1
    assert provider.billed_usd == Decimal("0.51")


async def test_what_cannot_be_scripted(provider: FakeProvider) -> None:
    """A text for a search, and an endpoint that takes no script, are refused when they are scripted."""
    with pytest.raises(InvalidInputError, match="a list of results"):
        provider.script("text", endpoint="search")
    with pytest.raises(InvalidInputError, match="cannot be scripted"):
        provider.script(Fault.stall(), endpoint="models")
    assert provider.unused == 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault.empty_choices(), []), (Fault.empty_content(), None), (Fault.wrong_schema(), {"items": "not a list"})],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_spoilt_results(
    http: aiohttp.ClientSession, provider: FakeProvider, fault: Fault, expected: object
) -> None:
    """Answer faults hit a search as an empty, a missing and a misshapen list."""
    provider.script(fault)
    assert (await _search(http, provider)).get("search_result") == expected
    assert provider.billed_usd == Decimal("0.01")


async def test_fenced_results(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A search can answer with a fence around its JSON, which then is none."""
    provider.script(Fault.code_fenced())
    with pytest.raises(json.JSONDecodeError):
        await _search(http, provider)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("1113", 429),
        ("1302", 429),
        ("1303", 429),
        ("1305", 429),
        ("1304", 429),
        ("1308", 429),
        ("1310", 429),
        ("1211", 400),
        ("1214", 400),
        ("1261", 400),
        ("1301", 400),
    ],
)
async def test_zai_codes(http: aiohttp.ClientSession, provider: FakeProvider, code: str, status: int) -> None:
    """z.ai's codes arrive with their true statuses, no balance as 429."""
    provider.script(Fault.zai_error(int(code)))
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    async with http.post(f"{provider.zai_url}/web_search", json=BODY, headers=headers) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error["code"] == code
    assert error["message"]


def test_a_code_without_a_known_status_needs_one() -> None:
    """A made-up z.ai code is refused unless it says with which status it comes."""
    with pytest.raises(InvalidInputError, match="9999"):
        Fault.zai_error("9999")
    assert Fault.zai_error("9999", status=418).status == 418
