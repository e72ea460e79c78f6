"""The dates that search providers write: ISO, English, Chinese, and "so long ago". Pure."""

import re
from datetime import date, datetime, timedelta

__all__ = ["parse_published"]

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ABSOLUTE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?!\d)",
        r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})$",
        r"^(?P<year>\d{4})年(?P<month>\d{1,2})月(?P<day>\d{1,2})[日号]",
        rf"^(?:[a-z]+,\s*)?{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})\b",
        rf"^(?:[a-z]+,\s*)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[\s-]+{_MONTH},?[\s-]+(?P<year>\d{{4}})\b",
    )
)
_RELATIVE = (
    re.compile(r"^(?P<amount>\d{1,4})\s*(?P<unit>秒|分钟|小时|天|周|个月|年)钟?前$"),
    re.compile(r"^(?P<amount>\d{1,4}|an?)\s+(?P<unit>second|minute|hour|day|week|month|year)s?\s+ago$", re.IGNORECASE),
)
# A month and a year are meant roughly wherever they are written this way.
_SECONDS = {
    **dict.fromkeys(("second", "秒"), 1),
    **dict.fromkeys(("minute", "分钟"), 60),
    **dict.fromkeys(("hour", "小时"), 3_600),
    **dict.fromkeys(("day", "天"), 86_400),
    **dict.fromkeys(("week", "周"), 7 * 86_400),
    **dict.fromkeys(("month", "个月"), 30 * 86_400),
    **dict.fromkeys(("year", "年"), 365 * 86_400),
}
_DAYS_AGO = {"today": 0, "今天": 0, "yesterday": 1, "昨天": 1, "前天": 2}


def parse_published(text: str | None, now: datetime | None = None) -> date | None:
    """The date that a text names, None where it names none that can be read.

    "22小时前" and "3 days ago" need `now`, the moment at which they were written.
    """
    words = (text or "").strip()
    for pattern in _ABSOLUTE:
        if match := pattern.match(words):
            return _date(match.groupdict())
    return None if now is None else _counted_back(words, now)


def _date(parts: dict[str, str]) -> date | None:
    month = _MONTHS[parts["name"].lower()] if "name" in parts else int(parts["month"])
    try:
        return date(int(parts["year"]), month, int(parts["day"]))
    except ValueError:
        return None


def _counted_back(words: str, now: datetime) -> date | None:
    if (days := _DAYS_AGO.get(words.lower())) is not None:
        return (now - timedelta(days=days)).date()
    for pattern in _RELATIVE:
        if match := pattern.match(words):
            amount = 1 if match["amount"].lower().startswith("a") else int(match["amount"])
            try:
                return (now - timedelta(seconds=amount * _SECONDS[match["unit"].lower()])).date()
            except OverflowError:
                return None
    return None
