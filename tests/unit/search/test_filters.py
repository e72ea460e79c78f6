from datetime import date

import pytest

from llm_common.search.filters import Abilities, apply_filters, plan_requests
from llm_common.search.query import SearchRequest, parse_query
from llm_common.search.urls import canonical_url
from llm_common.web_search import SearchResult

ONE = Abilities("one", recency=True)
NONE = Abilities("none", recency=False)
MANY = Abilities("many", recency=True)
TODAY = date(2026, 11, 21)


def at(url, published=None):
    return SearchResult(title=url, url=url, snippet="", published_date=published)


def requests_for(abilities, **arguments):
    return plan_requests(parse_query("q", **arguments), abilities)


def test_without_filters_one_request_is_made():
    """The common case costs one search with the count that was asked for."""
    assert requests_for(ONE, count=7, recency="1w") == (SearchRequest("q", 7, (), "1w"),)


def test_each_plain_domain_is_a_request_where_the_provider_takes_one():
    """z.ai takes one plain domain at a time."""
    assert requests_for(ONE, domains=["b.com", "a.com"]) == (
        SearchRequest("q", 10, ("a.com",)),
        SearchRequest("q", 10, ("b.com",)),
    )


def test_all_wildcards_share_one_wide_request():
    """Nobody filters `*.gov` upstream, so more is asked for and filtered here."""
    assert requests_for(ONE, domains=["*.gov", "*.edu"]) == (SearchRequest("q", 50),)
    assert requests_for(ONE, count=2, domains=["*.gov", "a.com"]) == (
        SearchRequest("q", 2, ("a.com",)),
        SearchRequest("q", 10),
    )


def test_a_provider_that_takes_many_domains_gets_them_at_once():
    """No fan-out where it is not needed."""
    assert requests_for(MANY, domains=["b.com", "a.com"]) == (SearchRequest("q", 10, ("a.com", "b.com")),)


def test_a_provider_without_filters_is_asked_once_and_widely():
    """Both filters are then applied here."""
    assert requests_for(NONE, domains=["a.com", "*.gov"], recency="1d") == (SearchRequest("q", 50),)


def run(abilities, answers, **arguments):
    query = parse_query("q", **arguments)
    return apply_filters(query, abilities, list(zip(plan_requests(query, abilities), answers, strict=True)), TODAY)


def test_answers_are_merged_interleave_without_repeats_and_cut():
    """Each domain has its best first; the same page under two addresses comes once."""
    outcome = run(
        ONE,
        [
            [at("https://a.com/1"), at("https://a.com/2")],
            [at("https://b.com/1"), at("http://www.b.com/1/?utm_source=x"), at("https://b.com/2")],
        ],
        domains=["a.com", "b.com"],
        count=4,
    )
    assert [r.url for r in outcome.results] == [
        "https://a.com/1",
        "https://b.com/1",
        "https://a.com/2",
        "https://b.com/2",
    ]


def test_wildcards_are_filtered_here_and_said_so():
    """`*.gov` matches by suffix of whole labels, not by the end of a text."""
    pages = [at("https://irs.gov/x"), at("https://notgov.com/x"), at("https://evilgov/x"), at("https://www.ca.gov/y")]
    outcome = run(ONE, [pages], domains=["*.gov"], recency="1y")
    assert [r.domain for r in outcome.results] == ["irs.gov", "ca.gov"]
    assert (outcome.provider_filters, outcome.local_filters) == (("recency=1y",), ("domain=*.gov",))


ADDRESSES_OF_A_BOOKSHOP = [
    "https://bücher.de/a",
    "https://BÜCHER.de/b",
    "https://www.bu\u0308cher.de/c",
    "https://xn--bcher-kva.de/d",
    "https://XN--BCHER-KVA.DE./e",
    "https://bücher.de./f",
    "https://bücher。de/g",
    "https://shop.bücher.de:8443/h",
    "https://user:word@bücher.de/i",
]


@pytest.mark.parametrize("abilities", [ONE, NONE, MANY])
@pytest.mark.parametrize(
    "domain", ["bücher.de", "xn--bcher-kva.de", "Bücher.DE.", "*.de", "www.bücher.de", "*.bücher.de"]
)
def test_a_domain_is_the_same_in_every_spelling(abilities, domain):
    """International names, final dots, case, ports and users: filter and hit are compared as DNS has them."""
    pages = [at(url) for url in ADDRESSES_OF_A_BOOKSHOP]
    strange = [at("https://bücher.de@evil.example/"), at("https://xbücher.de.evil.example/"), at("https://bucher.xde/")]
    outcome = run(abilities, [[*strange, *pages]], domains=[domain], count=20)
    assert [r.url for r in outcome.results] == ADDRESSES_OF_A_BOOKSHOP
    assert {r.domain for r in pages} == {"xn--bcher-kva.de", "shop.xn--bcher-kva.de"}


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://irs.gov./a", "irs.gov"),
        ("https://faß.de/", "xn--fa-hia.de"),
        ("https://fass.de/", "fass.de"),
        ("https://☃.net/", "xn--n3h.net"),
        ("https://пример.рф/", "xn--e1afmkfd.xn--p1ai"),
        ("https://[::1]:80/x", "::1"),
        ("https://192.0.2.1/", "192.0.2.1"),
        ("https://a_b.example.org/", "a_b.example.org"),
    ],
)
def test_a_hits_domain_is_dns_own(url, domain):
    """Lower case, IDNA as browsers have it, no final dot; what is filtered for finds it."""
    assert at(url).domain == domain


def test_a_filter_that_the_provider_ignored_counts_as_ours():
    """Only what the provider really kept to is reported as its own."""
    honoured = run(ONE, [[at("https://sub.a.com/1")]], domains=["a.com"])
    ignored = run(ONE, [[at("https://a.com/1"), at("https://ads.example/1")]], domains=["a.com"])
    assert (honoured.provider_filters, honoured.local_filters) == (("domain=a.com",), ())
    assert (ignored.provider_filters, ignored.local_filters) == ((), ("domain=a.com",))
    assert [r.url for r in ignored.results] == ["https://a.com/1"]


def test_recency_here_keeps_the_undated():
    """What is known to be old goes; what has no readable date stays."""
    pages = [
        at("https://a.com/1", "2026-11-20"),
        at("https://a.com/2", "2024-01-01"),
        at("https://a.com/3", "soon"),
        at("https://a.com/4"),
    ]
    outcome = run(NONE, [pages], recency="1w")
    assert [r.url[-1] for r in outcome.results] == ["1", "3", "4"]
    assert outcome.local_filters == ("recency=1w",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://www.irs.gov/a/", "http://IRS.gov/a"),
        ("https://irs.gov/a?b=1&utm_campaign=x&a=2", "https://irs.gov/a?a=2&b=1"),
        ("https://irs.gov:443/a#top", "https://irs.gov/a"),
        ("https://irs.gov./a", "https://irs.gov/a"),
        ("https://bücher.de/a", "https://www.xn--bcher-kva.de./a"),
        ("https://irs.gov/a?srsltid=AfmB&gad_source=1&wbraid=x&_gl=1&mkt_tok=a&x=1", "https://irs.gov/a?x=1"),
        ("https://irs.gov/a?UTM_Source=x&FBCLID=y&pk_campaign=z", "https://irs.gov/a"),
    ],
)
def test_addresses_of_the_same_page_compare_equal(one, other):
    """Scheme, www, port, fragment, tracking and the order of parameters do not make a page."""
    assert canonical_url(one) == canonical_url(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://irs.gov/a", "https://irs.gov/A"),
        ("https://irs.gov/a?x=1", "https://irs.gov/a?x=2"),
        ("https://irs.gov:8443/a", "https://irs.gov/a"),
        ("https://irs.gov/a?x", "https://irs.gov/a"),
        ("https://irs.gov/a?pk_id=1", "https://irs.gov/a"),
        ("https://faß.de/", "https://fass.de/"),
        ("https://a.irs.gov/", "https://irs.gov/"),
        ("https://[::1]:80/x", "https://irs.gov:80x/x"),
    ],
)
def test_addresses_of_different_pages_do_not(one, other):
    """Paths are case-sensitive, parameters and ports count."""
    assert canonical_url(one) != canonical_url(other)
