"""Rules and documents of personal finance in the United States."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from llm_common.exceptions import InvalidInputError
from llm_common.search.result import SearchResult
from llm_common.web_search import WebSearchClient

__all__ = ["FinanceSearchService"]

# fmt: off
_STATES: Final[Mapping[str, str]] = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "DC": "District of Columbia", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas",
    "KY": "Kentucky", "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan",
    "MN": "Minnesota", "MS": "Mississippi", "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada",
    "NH": "New Hampshire", "NJ": "New Jersey", "NM": "New Mexico", "NY": "New York", "NC": "North Carolina",
    "ND": "North Dakota", "OH": "Ohio", "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania",
    "RI": "Rhode Island", "SC": "South Carolina", "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas",
    "UT": "Utah", "VT": "Vermont", "VA": "Virginia", "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin",
    "WY": "Wyoming",
}
# fmt: on
_BY_NAME: Final = {name.lower(): name for name in _STATES.values()}
#: Spelling without signs → the name that the rules use.
_ACCOUNTS: Final[Mapping[str, str]] = {
    "401k": "401(k)",
    "roth401k": "Roth 401(k)",
    "solo401k": "solo 401(k)",
    "403b": "403(b)",
    "457b": "457(b)",
    "457": "457(b)",
    "ira": "traditional IRA",
    "traditionalira": "traditional IRA",
    "rothira": "Roth IRA",
    "sepira": "SEP IRA",
    "sep": "SEP IRA",
    "simpleira": "SIMPLE IRA",
    "inheritedira": "inherited IRA",
    "hsa": "health savings account (HSA)",
    "tsp": "Thrift Savings Plan",
    "pension": "defined benefit pension plan",
}
_TICKER = re.compile(r"[A-Z][A-Z0-9]{0,5}(?:[.-][A-Z]{1,2})?")
_FIRST_INCOME_TAX = 1913
#: State tax agencies are at .gov, a few at state.xx.us.
_GOVERNMENT = ("*.gov", "*.us")


class FinanceSearchService:
    """One search per question, over `search` with its cache, budget and ledger."""

    def __init__(self, search: WebSearchClient) -> None:
        self._search = search

    async def search_tax_rules(self, state: str, year: int | None = None, *, count: int = 10) -> list[SearchResult]:
        """A state's income tax rules, from government pages. `state` is a name or a two-letter code.

        `year` is the tax year, by default the current one. Raises `InvalidInputError`.
        """
        name = _state(state)
        return await self._search.search(
            f"{name} state income tax rules brackets deductions {_year(year)}", count, _GOVERNMENT
        )

    async def search_retirement_rules(self, account_type: str, *, count: int = 10) -> list[SearchResult]:
        """This year's limits and rules of a kind of account (`401k`, `Roth IRA`, ...), from government pages."""
        account = _ACCOUNTS.get(re.sub(r"[^a-z0-9]", "", account_type.lower()))
        if account is None:
            known = ", ".join(sorted(_ACCOUNTS))
            raise InvalidInputError(f"account type {account_type!r:.60} is unknown; use one of {known}")
        return await self._search.search(
            f"{account} contribution limits withdrawal rules {_year(None)}", count, _GOVERNMENT
        )

    async def search_fund_prospectus(self, ticker: str, *, count: int = 10) -> list[SearchResult]:
        """The prospectus of a fund, wherever it is published. `ticker` is like `VTSAX`."""
        symbol = ticker.strip().upper()
        if not _TICKER.fullmatch(symbol):
            raise InvalidInputError(f"ticker {ticker!r:.40} is not a fund's symbol; use one such as VTSAX")
        return await self._search.search(f"{symbol} fund prospectus expense ratio fees {_year(None)}", count)


def _state(given: str) -> str:
    text = " ".join(given.split())
    name = _STATES.get(text.upper()) or _BY_NAME.get(text.lower())
    if name is None:
        raise InvalidInputError(
            f"state {given!r:.60} is unknown; use a US state's name or code, such as California or CA"
        )
    return name


def _year(year: int | None) -> int:
    current = datetime.now(UTC).year
    if year is None:
        return current
    if isinstance(year, bool) or not _FIRST_INCOME_TAX <= year <= current + 1:
        raise InvalidInputError(f"tax year {year!r} must be from {_FIRST_INCOME_TAX} to {current + 1}")
    return year
