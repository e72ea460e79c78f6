"""The search services: what is sent, what is understood, and what their refusals mean."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import ConfigurationError, SearchError, SearchQuotaError
from llm_common.search.markup import without_markup
from llm_common.search.providers import exa
from llm_common.search.providers.parsing import Exchange, read_answer, read_refusal
from llm_common.search.providers.registry import SERVICES
from llm_common.search.query import SearchRequest
from llm_common.testing.search_services import FakeSearchServices, ServiceReply
from llm_common.web_search import WebSearchClient

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ASKED = SearchRequest("q", 7, ("a.gov", "b.org"), "1w")
#: A hit as each of them writes it; `body` puts hits where they belong.
HITS = {
    "zai": {"title": "T", "content": "S", "link": "https://a.gov/x", "media": "", "publish_date": ""},
    "tavily": {"title": "T", "url": "https://a.gov/x", "content": "S", "score": 0.5},
    "brave": {"title": "T", "url": "https://a.gov/x", "description": "S", "age": "2 days ago"},
    "exa": {"title": "T", "url": "https://a.gov/x", "highlights": ["S"], "score": None},
    "searxng": {"title": "T", "url": "https://a.gov/x", "content": "S", "score": 2.5},
}


def body(name, hits, **more):
    found = {"brave": {"type": "search", "web": {"results": hits}}, "zai": {"id": "1", "search_result": hits}}
    found = found.get(name, {"results": hits})
    return json.dumps({**found, **more}).encode()


def encode(name, request):
    return SERVICES[name].encode(request)


def parse(name, raw):
    answer = read_answer(Exchange(SERVICES[name]), raw)
    if isinstance(answer, SearchError):
        raise answer
    return answer


def refusal(name, status, raw, headers=None):
    return read_refusal(Exchange(SERVICES[name]), status, headers or {}, raw)


def test_every_service_has_a_hit_in_these_tests():
    """A service that is added gets a recorded hit in HITS above, and with it every test here."""
    assert set(SERVICES) == set(HITS)


def test_each_filter_goes_under_its_name_on_the_wire():
    """Domains, recency and count, as each service documents them."""
    assert encode("tavily", ASKED).body == {
        "query": "q",
        "search_depth": "basic",
        "max_results": 7,
        "include_domains": ["a.gov", "b.org"],
        "time_range": "week",
    }
    assert encode("brave", ASKED).params == {
        "q": "q (site:a.gov OR site:b.org)",
        "count": "7",
        "result_filter": "web",
        "text_decorations": "false",
        "freshness": "pw",
    }
    assert exa.encode(ASKED, NOW).body == {
        "query": "q",
        "type": "auto",
        "numResults": 7,
        "contents": {"highlights": True},
        "includeDomains": ["a.gov", "b.org"],
        "startPublishedDate": "2026-11-14T12:00:00.000Z",
    }
    assert encode("searxng", SearchRequest("q", recency="1m")).params == {
        "q": "q",
        "format": "json",
        "time_range": "month",
    }


def test_what_was_not_asked_for_is_not_sent():
    """No filter, no parameter."""
    plain = SearchRequest("q")
    assert "time_range" not in encode("tavily", plain).body
    assert encode("brave", plain).params["q"] == "q"
    assert "startPublishedDate" not in encode("exa", plain).body
    assert set(encode("searxng", plain).params) == {"q", "format"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_hit_is_read(name):
    """Title, address and text; a score where there is one."""
    (hit,) = parse(name, body(name, [HITS[name]])).results
    assert (hit.title, hit.url, hit.snippet) == ("T", "https://a.gov/x", "S")
    assert hit.relevance_score == HITS[name].get("score")


def url_field(name):
    return SERVICES[name].fields.url


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("wrong", [None, 7, [], {}, "text", 5, "ftp://x/", "https://a.gov/\nx", ["https://a.gov"]])
def test_an_item_that_leads_nowhere_is_skipped_and_counted(name, wrong):
    """One bad item does not cost the others; nothing but bad ones is an error."""
    for bad in (wrong, {**HITS[name], url_field(name): wrong}):
        read = parse(name, body(name, [HITS[name], bad]))
        assert (len(read.results), read.skipped) == (1, 1)
        with pytest.raises(SearchError, match="none can be read"):
            parse(name, body(name, [bad]))


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers() | st.text())
ODD |= st.dictionaries(st.text(max_size=3), st.integers(), max_size=2) | st.just(10**400)


@given(
    st.sampled_from(sorted(SERVICES)), st.dictionaries(st.sampled_from(["title", "snippet", "published", "score"]), ODD)
)
def test_an_odd_field_costs_that_field_and_not_its_hit(name, odd):
    """Whatever stands in title, text, date or score, the hit's address and its other fields are there."""
    fields = SERVICES[name].fields
    names = {"title": fields.title, "snippet": fields.snippet, "published": fields.published[0], "score": fields.score}
    whole = parse(name, body(name, [HITS[name]])).results[0]
    read = parse(name, body(name, [{**HITS[name], **{names[part]: value for part, value in odd.items()}}]))
    assert (len(read.results), read.skipped) == (1, 0)
    kept = {"url": "url", "title": "title", "snippet": "snippet", "score": "relevance_score"}
    for part, attribute in kept.items():
        if part not in odd:
            assert getattr(read.results[0], attribute) == getattr(whole, attribute)


@pytest.mark.parametrize("name", SERVICES)
def test_markup_in_titles_and_texts_is_read_once(name):
    """Tags go and entities are signs, once; what only looks like a tag stays. An honest quote of it is found there."""
    fields = SERVICES[name].fields
    text = (
        "The <strong>tax</strong> on R&amp;D is &lt; 5&nbsp;%<br/>for List&lt;T&gt;, a < b, &amp;amp; no more&hellip;"
    )
    shown = "The tax on R&D is < 5\xa0% for List<T>, a < b, &amp; no more…"
    snippet = [text] if fields.snippet == "highlights" else text
    (hit,) = parse(name, body(name, [{**HITS[name], fields.title: text, fields.snippet: snippet}])).results
    assert (hit.title, hit.snippet) == (shown, shown)


@pytest.mark.parametrize("text", ["f(x) <y> z", "?a=1&region=2&copy=3", "5 < 6 > 4", "<b", "AT&T; x", "&#xFFFFFFFF;"])
def test_text_without_markup_stays_as_it_is(text):
    """No sign is made of what HTML does not know."""
    assert without_markup(text) == text


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("raw", [b"", b"<html>", b'{"results": [', b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_list_of_hits_is_an_error(name, raw):
    """Never an empty answer that would be cached as one."""
    with pytest.raises(SearchError):
        parse(name, raw)


@pytest.mark.parametrize("name", SERVICES)
def test_no_hits_are_an_answer(name):
    """An empty list is not a failure; Brave leaves the whole section out."""
    assert parse(name, body(name, [])).results == ()
    assert parse("brave", b'{"type": "search", "query": {}}').results == ()


def test_silent_engines_are_not_no_hits():
    """SearXNG that got no answer from its engines does not know whether there are hits."""
    with pytest.raises(SearchError, match="engines did not answer") as failure:
        parse("searxng", body("searxng", [], unresponsive_engines=[["google", "timeout"]]))
    assert failure.value.retryable
    assert parse("searxng", body("searxng", [HITS["searxng"]], unresponsive_engines=[["g", "t"]])).results


@given(
    st.sampled_from(sorted(SERVICES)),
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(["results", "web", "type", "url", "highlights", "error", "detail", "meta", "x"]), v
            )
        ),
    ).map(lambda v: json.dumps(v).encode()),
)
def test_any_bytes_give_hits_or_a_search_error(name, raw):
    """No answer makes anything else happen."""
    with suppress(SearchError):
        assert all(result.url for result in parse(name, raw).results)
    for status in (302, 401, 429, 500):
        assert isinstance(refusal(name, status, raw, {}), SearchError)


def brave_limit(current):
    meta = {"plan": "Free", "rate_limit": 1, "rate_current": 1, "quota_limit": 2000, "quota_current": current}
    return json.dumps({"error": {"code": "RATE_LIMITED", "detail": "limit exceeded", "meta": meta}}).encode()


@pytest.mark.parametrize(
    ("name", "status", "raw"),
    [
        ("tavily", 432, b'{"detail": {"error": "This request exceeds your plan\'s set usage limit."}}'),
        ("tavily", 433, b'{"detail": {"error": "This request exceeds the pay-as-you-go limit"}}'),
        ("brave", 402, b""),
        ("brave", 429, brave_limit(2000)),
        ("exa", 402, b'{"requestId": "r", "error": "No more credits", "tag": "NO_MORE_CREDITS"}'),
    ],
)
def test_an_empty_account_is_a_quota_error(name, status, raw):
    """Each service says it in its own way; waiting a moment does not help."""
    failure = refusal(name, status, raw, {"Retry-After": "1"})
    assert isinstance(failure, SearchQuotaError)
    assert (failure.retryable, failure.provider) == (False, name)


@pytest.mark.parametrize(
    ("name", "status", "raw"),
    [("brave", 429, brave_limit(15)), ("tavily", 429, b""), ("exa", 429, b""), ("searxng", 429, b"")],
)
def test_too_many_at_once_may_pass(name, status, raw):
    """And the service may say when."""
    failure = refusal(name, status, raw, {"retry-after": "3"})
    assert not isinstance(failure, SearchQuotaError)
    assert (failure.retryable, failure.retry_after) == (True, 3.0)


@pytest.mark.parametrize(
    ("name", "variable"), [("tavily", "TAVILY_API_KEY"), ("brave", "BRAVE_API_KEY"), ("exa", "EXA_API_KEY")]
)
def test_a_refused_key_names_its_variable(name, variable):
    """Also where the services' own words are missing."""
    assert variable in str(refusal(name, 401, b"", {}))


def test_a_refused_format_says_what_to_set():
    """SearXNG answers 403 where JSON is not switched on."""
    assert "search.formats" in str(refusal("searxng", 403, b"<html>", {}))


def test_prices_are_those_of_the_documentation():
    """Per request, in dollars."""
    assert {name: facts.price_usd for name, facts in SERVICES.items()} == {
        "zai": Decimal("0.01"),
        "tavily": Decimal("0.008"),
        "brave": Decimal("0.005"),
        "exa": Decimal("0.007"),
        "searxng": Decimal(0),
    }


# --- over HTTP

#: z.ai is served by the model providers' fake, and tested in test_client.py.
SIDE = [name for name in SERVICES if name != "zai"]


@pytest.fixture
async def services(monkeypatch):
    async with FakeSearchServices() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("DATABASE_URL", raising=False)
        yield running


@pytest.mark.parametrize("name", SIDE)
async def test_a_service_is_asked_and_paid_as_it_wants(services, name):
    """Chosen by name: its path, its key, its parameters, its price."""
    async with WebSearchClient(provider=name) as search:
        outcome = await search.lookup("heat pumps", 5, ["irs.gov"], "1y")
        again = await search.lookup("Heat  pumps", 5, ["irs.gov"], "1y")
        assert search.ledger.spent_today_nano == int(SERVICES[name].price_usd * 10**9)
    assert outcome.provider == name
    assert "recency=1y" in outcome.provider_filters
    assert again.cached
    assert len(services.requests) == 1


async def test_a_service_gives_at_most_what_it_can(services):
    """Fifty results are asked of nobody who gives twenty, and where one request costs more beyond ten, ten."""
    for name, most in (("tavily", 20), ("brave", 20), ("exa", 10)):
        async with WebSearchClient(provider=name) as search:
            assert len(await search.search("q", 50)) == most


async def test_many_domains_are_asked_in_groups(services):
    """Brave takes ten of them in a query; each group is a paid request of its own."""
    async with WebSearchClient(provider="brave") as search:
        await search.search("q", domains=[f"d{number}.gov" for number in range(12)])
    assert [asked["q"].count("site:") for asked in services.asked("brave")] == [10, 2]


@pytest.mark.parametrize("name", SIDE)
async def test_no_redirect_is_followed(services, name):
    """The key stays where it belongs."""
    async with FakeSearchServices() as elsewhere:
        services.script(name, ServiceReply(status=307, headers={"Location": f"{elsewhere.url(name)}/search"}))
        async with WebSearchClient(provider=name) as search:
            with pytest.raises(SearchError, match="not followed"):
                await search.search("q")
        assert elsewhere.requests == []


@pytest.mark.parametrize("name", ["tavily", "brave", "exa"])
async def test_a_wrong_key_is_refused_and_free(services, name, monkeypatch):
    """The fake checks the header that the service documents."""
    async with WebSearchClient("another-key", provider=name) as search:
        with pytest.raises(SearchError, match="refused the key") as failure:
            await search.search("q")
        assert search.ledger.spent_today_nano == 0
    assert "another-key" not in str(failure.value)


@pytest.mark.parametrize(
    ("name", "told"), [("tavily", "TAVILY_API_KEY"), ("searxng", "SEARXNG_BASE_URL"), ("local", "base_url")]
)
async def test_what_is_missing_is_named(monkeypatch, name, told):
    """At the first search, before anything is sent."""
    for variable in ("TAVILY_API_KEY", "SEARXNG_BASE_URL", "SEARXNG_API_BASE", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    async with WebSearchClient(provider=name) as search:
        with pytest.raises(ConfigurationError, match=told):
            await search.search("q")
