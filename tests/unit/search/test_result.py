import re
from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_common.web_search import SearchResult

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)


def result(**fields):
    return SearchResult(**{"title": "T", "url": "https://www.IRS.gov/a", "snippet": "S"} | fields)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2025-10-01", date(2025, 10, 1)),
        ("2025-10-01T23:59:00Z", date(2025, 10, 1)),
        ("2025/1/2", date(2025, 1, 2)),
        ("20251001", date(2025, 10, 1)),
        ("2025年10月1日", date(2025, 10, 1)),
        ("Oct 1, 2025", date(2025, 10, 1)),
        ("Wed, October 1st, 2025", date(2025, 10, 1)),
        ("1 October 2025", date(2025, 10, 1)),
        ("Wed, 01 Oct 2025 07:28:00 GMT", date(2025, 10, 1)),
        ("2025-13-41", None),
        ("22小时前", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_date_is_read_where_the_text_names_one(text, day):
    """Strange dates stay as text; what is read is never guessed."""
    found = result(published_date=text)
    assert (found.published_date, found.published) == (text, day)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("22小时前", date(2026, 11, 20)),
        ("3天前", date(2026, 11, 18)),
        ("5 分钟前", date(2026, 11, 21)),
        ("2 weeks ago", date(2026, 11, 7)),
        ("an hour ago", date(2026, 11, 21)),
        ("昨天", date(2026, 11, 20)),
        ("Yesterday", date(2026, 11, 20)),
        ("9999 years ago", None),
        ("2025年10月1日", date(2025, 10, 1)),
    ],
)
def test_a_relative_date_is_read_from_when_it_was_found(text, day):
    """ "22 hours ago" is a date only beside the moment at which it was written."""
    assert result(published_date=text).published_as_of(NOW) == day


def test_a_result_cannot_be_edited():
    """What is handed out cannot change what the cache holds."""
    with pytest.raises(ValidationError, match="frozen"):
        result().title = "edited"


def test_a_result_dumps_its_five_fields():
    """Hosts store exactly these."""
    assert result(published_date="22小时前", relevance_score=0.5).model_dump() == {
        "title": "T",
        "url": "https://www.IRS.gov/a",
        "snippet": "S",
        "published_date": "22小时前",
        "relevance_score": 0.5,
    }


def test_a_result_knows_its_domain():
    """In lower case, without www."""
    assert result().domain == "irs.gov"


@pytest.mark.parametrize(
    "url",
    [
        *["javascript:alert(1)", "ftp://a.b/c", "/relative", "", "https://", "data:text/html,x", "file:///etc/passwd"],
        *[
            "https://a.gov/\nx",
            "https://a.gov/\rx",
            "https://a.gov/\x00",
            "https://a.gov/\x1b[2J",
            "https://a.gov/\x85",
        ],
        *[
            "https://exa mple.gov/",
            "https://a.gov/a b",
            "https://a.gov/\xa0",
            "https://a.gov/\u3000",
            "ht\ntps://a.gov/",
        ],
        *["https://exa\u200bmple.gov/", "https://exa\u200dmple.gov/", "https://a\u00adb.gov/", "https://\u3164.gov/"],
        *["https://a.gov/\u202egpj.exe", "https://a.gov/\u2066x", "https://a.gov/\ufeff", "https://a.gov/\ud800"],
        *[
            "https://irs.gov\\@evil.example/",
            "https://irs%2egov/",
            "https://a..gov/",
            "https://irs.gov../",
            "https://[::1",
        ],
        *["https://<b>.gov/", "https://℀.gov/", "https://./", "https:a.gov", "https://user@/"],
    ],
)
def test_a_result_leads_to_a_web_page(url):
    """Addresses that a host must not render as a link, or that lead elsewhere than they show, are no results."""
    with pytest.raises(ValidationError):
        result(url=url)


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        (" https://a.gov/s ", "https://a.gov/s"),
        ("\r\n\thttps://a.gov/s\n", "https://a.gov/s"),
        ("https://a.gov/%20x?y=%0A", "https://a.gov/%20x?y=%0A"),
        (
            "https://fa.example.org/\u0645\u06cc\u200c\u06a9\u0646\u0645",
            "https://fa.example.org/\u0645\u06cc\u200c\u06a9\u0646\u0645",
        ),
        ("https://bücher.de/größe", "https://bücher.de/größe"),
        ("http://user:word@a.gov:8080/x#y", "http://user:word@a.gov:8080/x#y"),
    ],
)
def test_an_address_is_kept_as_it_is_but_for_blanks_around_it(raw, url):
    """Words of any script stand in a path, with the signs that join their letters."""
    assert result(url=raw).url == url


@given(st.text() | st.text("htps:/.@\\ \n\u200b\u202eabü%[]?#"))
def test_any_text_is_an_address_or_refused(text):
    """Nothing else happens; what is taken has no blank, control or invisible sign, and names a host."""
    for url in (text, f"https://{text}", f"https://a.gov/{text}"):
        with suppress(ValidationError):
            taken = result(url=url)
            assert taken.domain
            assert not re.search(r"[\s\x00-\x20\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]", taken.url)


@pytest.mark.parametrize(
    "fields", [{"title": 7}, {"snippet": None}, {"published_date": 2025}, {"relevance_score": float("nan")}]
)
def test_wrong_types_are_not_turned_into_text(fields):
    """A number is not a title."""
    with pytest.raises(ValidationError):
        result(**fields)


def test_text_that_postgres_cannot_store_is_cleaned():
    """NUL and half surrogate pairs would make the whole answer impossible to cache."""
    assert result(title="a\x00b\ud800c").title == "ab?c"
