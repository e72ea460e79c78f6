"""The local search provider over a table with full-text search."""

from decimal import Decimal

import psycopg
import pytest

from llm_common.exceptions import InvalidInputError, SearchError
from llm_common.search.providers.documents import DocumentProvider
from llm_common.search.providers.local import Document
from llm_common.web_search import WebSearchClient

HEAT = Document(
    "https://www.Energy.ca.gov/heat", "Heat pumps", "Rebates for heat pumps are paid by the state.", "2026-03-01"
)
WAVE = Document("https://example.com/wave", "Weather", "A heat wave arrives; pumping stations are ready.")
OLD = Document("https://irs.gov/old", "Heating credit", "The credit for heating was repealed.", "2001-05-06")


@pytest.fixture
async def documents(db):
    provider = DocumentProvider(db)
    assert await provider.add([HEAT, WAVE, OLD]) == 3
    return provider


@pytest.fixture
async def search(documents, db):
    async with WebSearchClient(None, db, provider="local") as client:
        yield client


async def test_documents_are_found_by_their_words(search):
    """Any word in any of its forms, best first, with the text around it."""
    results = await search.search("rebate for heat pump")
    assert results[0].url == HEAT.url
    assert {result.url for result in results} == {HEAT.url, WAVE.url, OLD.url}
    assert "Rebates for heat pumps" in results[0].snippet
    assert results[0].relevance_score > results[1].relevance_score
    assert results[0].published_date == "2026-03-01"
    assert await search.search("zebra") == []
    assert await search.search("the of") == []


async def test_filters_are_applied_in_the_database(search):
    """Domains with their subdomains, recency with undated pages, and as many as were asked for."""
    by_domain = await search.lookup("heat", domains=["ca.gov", "irs.gov"])
    assert {result.domain for result in by_domain.results} == {"energy.ca.gov", "irs.gov"}
    assert by_domain.provider_filters == ("domain=ca.gov", "domain=irs.gov")
    recent = await search.lookup("heat", recency="1y")
    assert {result.url for result in recent.results} == {HEAT.url, WAVE.url}
    assert len(await search.search("heat", 1)) == 1


async def test_answers_follow_the_documents(search, documents, dsn):
    """Nothing is cached, nothing costs anything, and a document has one row."""
    assert len(await search.search("heat")) == 3
    assert await documents.remove([WAVE.url, "https://not.there"]) == 1
    assert await documents.add([Document(HEAT.url, "Boilers", "No more of it."), *[OLD] * 2]) == 2
    assert [result.url for result in await search.search("heat")] == [OLD.url]
    assert await documents.clear() == 2
    with psycopg.connect(dsn) as connection:
        spent = connection.execute("SELECT sum(cost_usd) FROM cost_tracking").fetchone()
        cached = connection.execute("SELECT count(*) FROM web_search_cache").fetchone()
    assert (spent, cached) == ((Decimal(0),), (0,))


@pytest.mark.parametrize("query", ["'; DROP TABLE x --", "a & | ! b:*", "\\", "<->", "(((", "heat' | 'pump"])
async def test_odd_queries_are_only_words(search, query):
    """No operator of the database's query language reaches it."""
    assert isinstance(await search.search(query), list)


async def test_odd_documents_are_stored_or_refused(documents, search):
    """A huge page is found by its beginning; a NUL is dropped; an address that is none is refused."""
    words = " ".join(f"word{number}" for number in range(200_000))
    await documents.add([Document("https://a.gov/huge", "Huge\x00", f"beginning\x00 {words}")])
    assert [result.url for result in await search.search("beginning")] == ["https://a.gov/huge"]
    with pytest.raises(InvalidInputError, match="http"):
        await documents.add([Document("file:///etc/passwd", "T", "x")])


async def test_without_the_table_it_is_a_search_error(empty_dsn):
    """So that a chain can go on."""
    async with WebSearchClient(None, empty_dsn, provider="local") as search:
        with pytest.raises(SearchError, match="documents in Postgres"):
            await search.search("q")


async def test_a_documents_domain_is_dns_own(documents, search):
    """An international name is found in each of its spellings, with a final dot or without."""
    await documents.add(
        [Document("https://bücher.de./a", "Books", "heat pumps"), Document("https://x.de/b", "X", "heat")]
    )
    for domain in ("bücher.de", "xn--bcher-kva.de", "BÜCHER.de."):
        assert [r.domain for r in await search.search("heat", domains=[domain])] == ["xn--bcher-kva.de"]
