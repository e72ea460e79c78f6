"""Providers to fall back on: the first that can answer does."""

import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from llm_common.exceptions import InvalidQueryError, SearchError, SearchQuotaError
from llm_common.search.cached_search import CLOSED
from llm_common.search.paid_search import Payer
from llm_common.search.provider_search import ProviderSearch, SearchOutcome
from llm_common.search.query import Query

__all__ = ["FallbackSearch", "seconds_to_rest"]

_log = logging.getLogger(__name__)

#: Somebody has to top up or to correct a key first, but nobody restarts us when it is done.
_REST_REFUSED: Final = 300.0
_REST_FAILED: Final = 30.0
_KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class FallbackSearch:
    """Asks `providers` in order. "No hits" is an answer; a quota, an outage or a refusal leads to the next one.

    A provider that failed rests for a while: only its cache is looked into, unless nobody else is left. `clock` is
    monotonic, in seconds.
    """

    def __init__(self, providers: Sequence[ProviderSearch], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._providers = tuple(providers)
        self._clock = clock
        self._rests_until: dict[str, float] = {}

    async def lookup(self, asked: Query, payer: Payer) -> SearchOutcome:
        """Raises the error of the only provider, or one that tells what each of them said."""
        if len(self._providers) == 1:
            return await self._providers[0].lookup(asked, payer)
        failures: list[SearchError] = []
        resting: list[ProviderSearch] = []
        for provider in self._providers:
            if self._rests(provider):
                resting.append(provider)
                outcome = await provider.look_in_cache(asked, payer)
            else:
                outcome = await self._try(provider, asked, payer, failures)
            if outcome is not None:
                return outcome
        for provider in resting:
            if (outcome := await self._try(provider, asked, payer, failures)) is not None:
                return outcome
        raise _all_failed(failures)

    def _rests(self, provider: ProviderSearch) -> bool:
        return self._clock() < self._rests_until.get(provider.name, 0.0)

    async def _try(
        self, provider: ProviderSearch, asked: Query, payer: Payer, failures: list[SearchError]
    ) -> SearchOutcome | None:
        try:
            outcome = await provider.lookup(asked, payer)
        except InvalidQueryError:
            raise
        except SearchError as error:
            if error.code == CLOSED:
                raise
            failures.append(error)
            rest = seconds_to_rest(error)
            if rest and not self._rests(provider):
                _log.warning("%s cannot search, the next provider is asked: %s", provider.name, error)
            self._rests_until[provider.name] = self._clock() + rest
            return None
        if not outcome.cached:
            self._rests_until.pop(provider.name, None)
        return outcome

    def forget_flights(self) -> None:
        for provider in self._providers:
            provider.forget_flights()

    async def aclose(self) -> None:
        for provider in self._providers:
            await provider.aclose()


def seconds_to_rest(error: SearchError) -> float:
    """For how long a provider is not asked after this error; 0 where only the one query was refused."""
    if isinstance(error, SearchQuotaError) or error.status in _KEY_REFUSED:
        return _REST_REFUSED
    if not error.retryable and error.status is not None and 400 <= error.status < 500:  # noqa: PLR2004 (HTTP's class for a request that is not taken)
        return 0.0
    return max(_REST_FAILED, min(error.retry_after or 0.0, _REST_REFUSED))


def _all_failed(failures: Sequence[SearchError]) -> SearchError:
    said = "; ".join(str(failure) for failure in failures)
    kind = SearchQuotaError if all(isinstance(failure, SearchQuotaError) for failure in failures) else SearchError
    return kind(f"no search provider could answer: {said}", retryable=any(failure.retryable for failure in failures))
