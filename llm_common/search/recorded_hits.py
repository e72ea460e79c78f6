"""Searches that the cache answered, on their way to the ledger: many to a row, at cost 0."""

import logging
import threading
import uuid
from collections import deque
from dataclasses import dataclass

from llm_common.exceptions import DatabaseError
from llm_common.ledger import RecordingLedger
from llm_common.models import Outcome, PlannedCall
from llm_common.search.upstream import Payer

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
        self._guard = threading.Lock()

    @property
    def waits(self) -> bool:
        return bool(self._noted or self._rows)

    def note(self, payer: Payer, model: str) -> None:
        key = (id(payer.ledger), model, payer.step, payer.user_id, payer.run_id)
        with self._guard:
            if key in self._noted or len(self._noted) < _MAX_PAYERS:
                self._noted.setdefault(key, _Hits(payer, model)).number += 1

    async def hand_over(self) -> None:
        """Write down what was noted; what the ledger cannot take now goes with the next batch."""
        while (row := self._next_row()) is not None:
            ledger = row.payer.ledger
            if not isinstance(ledger, RecordingLedger):
                continue
            try:
                await ledger.record(row.call, row.outcome)
            except DatabaseError as error:
                self._rows.appendleft(row)
                _log.info("%d cache hits wait for the ledger: %s", row.outcome.calls, error)
                return
            except Exception:  # noqa: BLE001 (a host's ledger may raise anything)
                _log.exception("%d cache hits are not in the ledger", row.outcome.calls)
            except BaseException:
                self._rows.appendleft(row)
                raise

    def _next_row(self) -> _Row | None:
        with self._guard:
            if not self._rows:
                self._rows.extend(self._row(hits) for hits in self._noted.values())
                self._noted.clear()
            return self._rows.popleft() if self._rows else None

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
