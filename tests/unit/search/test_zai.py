import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._runtime.retry import RetryPolicy
from llm_common.exceptions import SearchError, SearchQuotaError
from llm_common.search.providers.parsing import Exchange, read_answer, read_refusal
from llm_common.search.providers.protocol import NOT_SENT
from llm_common.search.providers.zai import FACTS
from llm_common.search.query import SearchRequest
from llm_common.search.retry import may_be_charged, wait_before_retry

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HIT = {
    "title": "T",
    "content": "S",
    "link": "https://a.gov/x",
    "media": "",
    "icon": "",
    "refer": "ref_1",
    "publish_date": "",
}


def sent(request):
    return FACTS.encode(request).body


def parse(raw):
    answer = read_answer(Exchange(FACTS), raw)
    if isinstance(answer, SearchError):
        raise answer
    return answer


def refusal(status, raw, headers=None):
    return read_refusal(Exchange(FACTS), status, headers or {}, raw)


def answer(*items, **more):
    return json.dumps({"id": "1", "created": 1, "search_result": list(items)} | more).encode()


def error(code, message="m"):
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def test_a_request_is_what_the_service_documents():
    """Every argument under its name on the wire, and nothing that was not asked for."""
    assert sent(SearchRequest("q", 7, ("irs.gov",), "1w")) == {
        "search_query": "q",
        "search_engine": "search-prime",
        "count": 7,
        "search_domain_filter": "irs.gov",
        "search_recency_filter": "oneWeek",
    }
    assert sent(SearchRequest("q")) == {"search_query": "q", "search_engine": "search-prime", "count": 10}


def test_hits_are_read_from_search_result():
    """Title, link, content and date; an empty date is none."""
    (hit,) = parse(answer(HIT)).results
    assert hit.model_dump() == {
        "title": "T",
        "url": "https://a.gov/x",
        "snippet": "S",
        "published_date": None,
        "relevance_score": None,
    }


def test_half_a_surrogate_pair_is_cleaned():
    """JSON may carry it, PostgreSQL would refuse the whole answer for it."""
    raw = b'{"search_result": [{"title": "a\\ud800b\\u0000", "link": "https://a.gov"}]}'
    assert parse(raw).results[0].title == "a?b"


def test_no_hits_are_an_answer():
    """An empty list is not a failure."""
    assert parse(answer()).results == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b'{"search_result": [',
        b"[]",
        b"null",
        b"{}",
        b'{"search_result": null}',
        b'{"search_result": {}}',
        b'{"results": []}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_list_of_hits_is_an_error(raw):
    """Never an empty answer that would be cached as one."""
    with pytest.raises(SearchError):
        parse(raw)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["search_result", "error", "code", "link", "x"]), v),
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_give_hits_or_a_search_error(raw):
    """No answer makes anything else happen."""
    with suppress(SearchError):
        assert all(result.url for result in parse(raw).results)
    refused = refusal(500, raw, {})
    assert isinstance(refused, SearchError)


@pytest.mark.parametrize("code", ["1113", "1304", "1308", "1310", 1113])
def test_an_empty_account_is_a_quota_error_and_not_retried(code):
    """1113 comes as HTTP 429, where waiting would only cost time."""
    failure = refusal(429, error(code), {"Retry-After": "1"})
    assert isinstance(failure, SearchQuotaError)
    assert (failure.retryable, failure.code) == (False, str(code))


@pytest.mark.parametrize(
    ("status", "raw"),
    [(429, error("1302")), (429, error("1303")), (429, error("1305")), (429, b""), (500, b""), (503, b"x"), (529, b"")],
)
def test_what_may_pass_is_retried(status, raw):
    """Rate limits and server errors."""
    assert refusal(status, raw, {}).retryable


@pytest.mark.parametrize(
    ("status", "raw"),
    [(400, error("1214")), (401, error("1000")), (404, b'{"error": "Not Found"}'), (307, b""), (413, b"")],
)
def test_what_will_not_pass_is_not_retried(status, raw):
    """A refused request, a refused key, a redirect."""
    assert not refusal(status, raw, {}).retryable


def test_a_refused_key_names_its_variable():
    """The message says where the key comes from, and never shows it."""
    assert "ZAI_API_KEY" in str(refusal(401, error("1000"), {}))


def wait(failure, attempt=1, left=30.0, jitter=1.0):
    return wait_before_retry(failure, attempt=attempt, seconds_left=left, policy=RetryPolicy(), jitter=lambda: jitter)


def test_waits_double_with_jitter_and_end_after_three_attempts():
    """1 and 2 seconds, halved at most by the jitter, then no more."""
    failure = SearchError("m", retryable=True)
    assert [wait(failure, 1), wait(failure, 2), wait(failure, 3)] == [1.0, 2.0, None]
    assert wait(failure, jitter=0.0) == 0.5


def test_retry_after_wins_and_the_deadline_bounds_it():
    """No wait is begun that does not end in time; what cannot be retried is not."""
    told = SearchError("m", retryable=True, retry_after=5.0)
    assert wait(told, jitter=0.0) == 5.0
    assert wait(told, left=5.0) is None
    assert wait(SearchError("m", retry_after=1.0)) is None


def test_only_refused_and_unsent_requests_are_free():
    """Whatever the provider may have worked on is charged."""
    assert [may_be_charged(SearchError("m", status=s)) for s in (None, 200, 307, 400, 429, 500, 529)] == [
        True,
        True,
        False,
        False,
        False,
        True,
        True,
    ]
    assert not may_be_charged(SearchError("m", code=NOT_SENT))
