"""How long a provider asks us to wait, from the many ways in which they say it. Pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

__all__ = ["retry_after"]

#: Longer waits than a week are taken for nonsense (an epoch in the wrong unit, a broken clock).
_LONGEST = 7 * 86_400.0
_MILLISECONDS_FROM = 1e11  # an epoch above this is in milliseconds: as seconds it would lie in the year 5138
_EPOCH_FROM = 1e9  # a number above this is a moment, one below it a duration
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait, or None where the provider says nothing usable.

    `headers` have lower-case names. Read are, in this order: `retry-after-ms` (OpenAI, Azure), `retry-after` in
    seconds or as an HTTP date (RFC 9110, 10.2.3), OpenAI's `x-ratelimit-reset-requests|tokens` (`6m0s`) for a
    limit whose remainder is 0, and `x-ratelimit-reset` (OpenRouter: epoch in milliseconds). Negative, absurd and
    unreadable values count as not sent.
    """
    for seconds in _candidates(headers, now):
        if seconds is not None and isfinite(seconds) and 0 <= seconds <= _LONGEST:
            return seconds
    return None


def _candidates(headers: Mapping[str, str], now: datetime) -> Iterator[float | None]:
    milliseconds = _number(headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    yield _seconds_or_date(headers.get("retry-after"), now)
    for limit in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{limit}") == "0":
            yield _duration(headers.get(f"x-ratelimit-reset-{limit}"))
    yield _moment(_number(headers.get("x-ratelimit-reset")), now)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _seconds_or_date(text: str | None, now: datetime) -> float | None:
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    wait = (date - now).total_seconds()
    # A date that has just passed means "now"; one long past is a broken clock.
    return max(0.0, wait) if wait > -_LONGEST else None


def _duration(text: str | None) -> float | None:
    if not text or _DURATION.sub("", text):
        return _number(text)
    return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION.findall(text))


def _moment(value: float | None, now: datetime) -> float | None:
    if value is None or value < _EPOCH_FROM:
        return value
    epoch = value / 1000 if value >= _MILLISECONDS_FROM else value
    return max(0.0, epoch - now.timestamp())
