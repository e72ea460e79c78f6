import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidQueryError
from llm_common.search.query import MAX_QUERY_CHARS, Query, SearchRequest, cache_key, fold, parse_query

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).filter(fold)
SPACES = st.text(" \t\n\u00a0\u2003", min_size=1, max_size=4)


def test_a_plain_query_gets_the_defaults():
    """Ten results, no filters, spaces collapsed, case kept for the provider."""
    assert parse_query("  SB 277\n fiscal   impact ") == Query("SB 277 fiscal impact", 10, (), (), None)


@pytest.mark.parametrize(
    "text", ["", "   ", "\n\t", "\u00a0", None, 7, "a\x00b", "a\ud800b", "x" * (MAX_QUERY_CHARS + 1), "x" * 2**20]
)
def test_an_unusable_query_is_refused(text):
    """Empty, not text, control characters, half a surrogate pair, too long: nothing of it is sent."""
    with pytest.raises(InvalidQueryError):
        parse_query(text)


def test_a_refusal_never_repeats_a_megabyte():
    """The message of a refusal stays short, whatever was passed."""
    for arguments in [("x" * 2**20,), ("q", 10, ["y" * 2**20]), ("q", 10, None, "z" * 2**20), ("q", 10**4000)]:
        with pytest.raises(InvalidQueryError) as refusal:
            parse_query(*arguments)
        assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("count", [0, 51, -1, True, 2.0, "10", None])
def test_count_is_a_whole_number_from_1_to_50(count):
    """Everything else is refused, also True and 2.0."""
    with pytest.raises(InvalidQueryError, match="count must be a whole number from 1 to 50"):
        parse_query("q", count)


@pytest.mark.parametrize("recency", ["2d", "1D", "oneDay", "", "noLimit"])
def test_an_unknown_recency_is_refused_with_the_known_ones(recency):
    """Only our own words are taken, not the provider's."""
    with pytest.raises(InvalidQueryError, match="use 1d, 1w, 1m, 1y"):
        parse_query("q", recency=recency)


@pytest.mark.parametrize(
    ("given_domain", "meant"),
    [
        ("https://www.irs.gov/forms", "www.irs.gov"),
        ("irs.gov/forms", "irs.gov"),
        ("irs.gov:443", "irs.gov"),
        (" irs.gov", "irs.gov"),
        ("https://user@irs.gov", "irs.gov"),
    ],
)
def test_a_wrong_domain_is_refused_with_the_right_form(given_domain, meant):
    """Scheme, path, port and spaces are not guessed away, but the message says what to pass."""
    with pytest.raises(InvalidQueryError, match=f"use '{meant}'"):
        parse_query("q", domains=[given_domain])


@pytest.mark.parametrize(
    "domain", ["", "gov", "*", "*.", "a..b", "-a.com", "*.*.gov", "a.*.gov", "http://", "[::1", "a b.com", 5]
)
def test_what_is_no_domain_is_refused(domain):
    """Neither a bare top-level name nor a star in the middle is a filter."""
    with pytest.raises(InvalidQueryError, match="domain"):
        parse_query("q", domains=[domain])


def test_domains_are_normalised():
    """Order, case, repetition and a closing dot do not matter; wildcards stand apart; one may be given as text."""
    query = parse_query("q", domains=["Whitehouse.GOV", "irs.gov.", "IRS.gov", "*.Edu", "*.ca.gov", "bücher.de"])
    assert query.domains == ("irs.gov", "whitehouse.gov", "xn--bcher-kva.de")
    assert query.wildcards == ("ca.gov", "edu")
    assert parse_query("q", domains="irs.gov").domains == ("irs.gov",)


@given(TEXTS)
def test_folding_twice_changes_nothing(text):
    """A folded text is its own folded text."""
    assert fold(fold(text)) == fold(text)


@given(st.lists(TEXTS.map(lambda t: "".join(t.split())).filter(bool), min_size=1, max_size=5), SPACES, SPACES)
def test_spelling_does_not_change_the_key(words, space, other):
    """Spacing, case and Unicode form are not part of a query's meaning."""
    plain = " ".join(words)
    spellings = [
        space + other.join(words) + space,
        unicodedata.normalize("NFD", plain),
        unicodedata.normalize("NFKC", plain),
    ]
    spellings += [plain.casefold()]
    keys = {cache_key(SearchRequest(parse_query(s).text), "zai") for s in [plain, *spellings] if fold(s)}
    assert len(keys) == 1


@given(st.lists(st.sampled_from(["irs.gov", "ca.gov", "x.org"]), unique=True), st.randoms())
def test_the_order_of_domains_does_not_change_the_key(domains, random):
    """Domains are a set."""
    shuffled = domains.copy()
    random.shuffle(shuffled)
    one, other = (parse_query("q", domains=names).domains for names in (domains, shuffled))
    assert cache_key(SearchRequest("q", 10, one), "zai") == cache_key(SearchRequest("q", 10, other), "zai")


REQUESTS = st.builds(
    SearchRequest,
    text=TEXTS,
    count=st.integers(1, 50),
    domains=st.lists(st.sampled_from(["a.b", "a.b,c.d", "c.d"]), unique=True, max_size=3).map(
        lambda d: tuple(sorted(d))
    ),
    recency=st.sampled_from([None, "1d", "1w"]),
)


@given(REQUESTS, REQUESTS, st.sampled_from(["zai", "local"]), st.sampled_from(["zai", "local"]))
def test_different_requests_have_different_keys(one, other, here, there):
    """Two requests share a key exactly if everything that an answer depends on is the same."""
    meaning = [(fold(r.text), r.count, r.domains, r.recency, p) for r, p in ((one, here), (other, there))]
    assert (cache_key(one, here) == cache_key(other, there)) == (meaning[0] == meaning[1])


def test_keys_are_stable():
    """A key is the same in every process and release, else the cache would be lost with each deploy."""
    key = cache_key(SearchRequest("SB 277 fiscal impact", 10, ("ca.gov",), "1y"), "zai")
    assert key == "v1:de3d53e6c84b18ac3caf21b77384edc5b334229722ad6625f59e3eec73176bf4"
