"""Searches that the cache answered, on their way to the ledger: many to a row, at cost 0."""

import logging
import uuid
from collections import deque
from collections.abc import Container
from dataclasses import dataclass

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import DatabaseError
from llm_common.ledger.protocol import RecordingLedger
from llm_common.models import Outcome, PlannedCall
from llm_common.search.paid_search import Payer

__all__ = ["RecordedHits"]

_log = logging.getLogger(__name__)

#: Beyond so many distinct payers in one batch (the ledger is away for long), the hits of new ones are let go.
_MAX_PAYERS = 10_000


@dataclass(slots=True)
class _Hits:
    payer: Payer
    model: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """Its key makes writing it twice harmless."""

    payer: Payer
    call: PlannedCall
    outcome: Outcome


class RecordedHits:
    """One row per payer and batch. Safe from several threads; what is not handed over when the process dies is lost.

    A host's ledger that has no `record` is not told.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        # By the ledger's identity: a host's need not be hashable.
        self._noted: dict[tuple[int, str, str | None, str | None, str | None], _Hits] = {}
        self._rows: deque[_Row] = deque()
        self._let_go = 0
        self._guard = fork_safe_lock()

    @property
    def waits(self) -> bool:
        return bool(self._noted or self._rows)

    def note(self, payer: Payer, model: str) -> None:
        key = (id(payer.ledger), model, payer.step, payer.user_id, payer.run_id)
        with self._guard:
            if key in self._noted or len(self._noted) < _MAX_PAYERS:
                self._noted.setdefault(key, _Hits(payer, model)).number += 1
            else:
                self._let_go += 1

    async def hand_over(self) -> None:
        """Write down what was noted; what a ledger cannot take now goes with the next batch."""
        kept: list[_Row] = []
        # Ledgers that cannot be reached, by identity: their further hits wait together, in one row for each payer.
        away: set[int] = set()
        try:
            while (row := self._next_row(away)) is not None:
                kept.append(row)
                if id(row.payer.ledger) not in away and await self._is_done_with(row):
                    kept.pop()
                else:
                    away.add(id(row.payer.ledger))
        finally:
            with self._guard:
                self._rows.extendleft(reversed(kept))

    async def aclose(self) -> None:
        """Hand over for the last time, and tell what no ledger took."""
        await self.hand_over()
        with self._guard:
            left = sum(row.outcome.calls for row in self._rows) + sum(hits.number for hits in self._noted.values())
        if left:
            _log.error("%d cache hits are not in the ledger, and are lost if the process ends now: it fails", left)

    async def _is_done_with(self, row: _Row) -> bool:
        """False: its ledger cannot be reached."""
        ledger = row.payer.ledger
        if not isinstance(ledger, RecordingLedger):
            return True
        try:
            await ledger.record(row.call, row.outcome)
        except DatabaseError as error:
            _log.info("%d cache hits wait for the ledger: %s", row.outcome.calls, error)
            return False
        except Exception:  # noqa: BLE001 (a host's ledger may raise anything)
            _log.exception("%d cache hits are not in the ledger", row.outcome.calls)
        return True

    def _next_row(self, away: Container[int]) -> _Row | None:
        with self._guard:
            if not self._rows:
                ready = [key for key in self._noted if key[0] not in away]
                self._rows.extend(self._row(self._noted.pop(key)) for key in ready)
                self._tell_what_was_let_go()
            return self._rows.popleft() if self._rows else None

    def _tell_what_was_let_go(self) -> None:
        if self._let_go:
            _log.error("%d cache hits will be in no ledger: those of %d payers wait already", self._let_go, _MAX_PAYERS)
            self._let_go = 0

    def _row(self, hits: _Hits) -> _Row:
        payer = hits.payer
        call = PlannedCall(
            kind="cache_hit",
            model=hits.model,
            provider=self._provider,
            bound_nano=0,
            step=payer.step,
            user_id=payer.user_id,
            run_id=payer.run_id,
            idempotency_key=uuid.uuid4().hex,
        )
        outcome = Outcome(
            model=hits.model,
            provider=self._provider,
            cost_nano=0,
            price_source="map",
            status="ok",
            calls=hits.number,
        )
        return _Row(payer, call, outcome)
