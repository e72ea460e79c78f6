"""One run in one worker's hands: its checkpoints, and the money of its steps."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from llm_common._runtime.shielding import run_shielded
from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.db.functions.ledger import outcome_json
from llm_common.db.functions.runs import ClaimedRun, Lease, LeaseState, StepOutput
from llm_common.db.transport import Json
from llm_common.exceptions import ConfigurationError, DatabaseError, DatabaseUnavailableError
from llm_common.llm.structured.schema import output_spec, parse
from llm_common.llm_client import LLMClient
from llm_common.models import Budget, Outcome, PlannedCall, Reservation
from llm_common.pipeline.events import EventKind, OnEvent, PipelineEvent, emit
from llm_common.pipeline.leases import go_on
from llm_common.pipeline.spec import StepSettings

__all__ = ["RunSession", "StepLedger"]

M = TypeVar("M", bound=BaseModel)

_UNKNOWN_RESERVATION: Final = "LC003"
#: Seconds between tries to store a step that was paid for, while the database is away. Storing it twice is harmless.
_WAITS: Final = (0.25, 1.0, 2.5, 6.0)


class StepLedger:
    """Pays for one step's call. Its settlement stores the answer and prolongs the lease in the same transaction."""

    wants_answer = True
    waits = True

    def __init__(self, tracker: CostTracker, db: Database, lease: Lease, step: StepOutput) -> None:
        self._tracker, self._db, self._lease, self._step = tracker, db, lease, step
        #: None until the step was stored.
        self.state: LeaseState | None = None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self._tracker.budgets

    @property
    def spent_today_nano(self) -> int:
        return self._tracker.spent_today_nano

    async def reserve(self, call: PlannedCall) -> Reservation:
        return await self._tracker.reserve(call)

    async def extend(
        self, reservation: Reservation, more_nano: int, *, model: str | None = None, provider: str | None = None
    ) -> Reservation:
        return await self._tracker.extend(reservation, more_nano, model=model, provider=provider)

    async def release(self, reservation: Reservation) -> None:
        await self._tracker.release(reservation)

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Settles also where another worker has the run by now: then `state` is "fenced", and nothing is stored."""
        step = replace(self._step, output=_storable(outcome.answer) if outcome.status == "ok" else None)
        try:
            self.state, settlement = await self._finish(step, reservation, outcome)
        except DatabaseError as error:
            if error.sqlstate != _UNKNOWN_RESERVATION:
                raise
            await self._tracker.settle(reservation, outcome)
            raise ConfigurationError(
                "the pipeline's db and its cost_tracker are different databases, so a step cannot be stored together "
                "with its money; pass the same database to both"
            ) from error
        await self._tracker.note_settlement(settlement)

    async def _finish(self, step: StepOutput, reservation: Reservation, outcome: Outcome) -> tuple[LeaseState, Json]:
        for wait in (*_WAITS, None):
            try:
                # A reserve that was made while the database was away must be in it to be settled with the step.
                await self._tracker.replay()
                return await self._db.runs.finish_step(
                    self._lease, step, reservation_id=reservation.id, outcome=outcome_json(outcome)
                )
            except DatabaseUnavailableError:
                if wait is None:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("the loop above returns or raises")


class RunSession:
    """What the steps see of a run: `ask` a model, `remember` what was made; each once, however often it is resumed."""

    def __init__(
        self,
        claimed: ClaimedRun,
        lease: Lease,
        models: Mapping[str, str],
        *,
        settings: Mapping[str, StepSettings],
        llm: LLMClient,
        tracker: CostTracker,
        db: Database,
        on_event: OnEvent | None,
    ) -> None:
        self.id = claimed.run.id
        self.tracker = tracker
        self._lease, self._models, self._stored = lease, models, claimed.steps
        self._settings = settings
        self._llm, self._db, self._on_event = llm, db, on_event

    async def ask(self, key: str, messages: list[dict[str, str]], schema: type[M]) -> M:
        """The model's answer to step `key` (`review:2`); a stored one is read again instead of paid again."""
        step = key.partition(":")[0]
        model = self._models[step]
        await self.emit("step_started", step=key, model=model)
        stored = self._stored.get(key)
        if isinstance(stored, str):
            await self.emit("step_finished", step=key, model=model, from_checkpoint=True)
            return parse(output_spec(schema), stored)
        empty = StepOutput(key=key, step=step, model=model, output=None)
        ledger = StepLedger(self.tracker, self._db, self._lease, empty)
        settings = self._settings[step].as_arguments()
        answer = await self._llm.complete(
            messages, model, response_model=schema, step=step, run_id=self.id, ledger=ledger, **settings
        )
        if ledger.state is None:
            # The settlement was lost, and the reserve will be charged instead: keep at least what was paid for.
            ledger.state = await self._save(replace(empty, output=_storable(answer.text)))
        go_on(ledger.state, self._lease)
        await self.emit(
            "step_finished",
            step=key,
            model=model,
            usage=answer.usage,
            cost_usd=answer.cost_usd,
            attempts=len(answer.attempts),
            seconds=answer.seconds,
        )
        return answer.parsed

    async def checkpoint(self, key: str, schema: type[M], make: Callable[[], Awaitable[M]]) -> M:
        """What `make` gives, stored as a step of its own; a stored one is read instead."""
        stored = self._stored.get(key)
        if stored is not None:
            return schema.model_validate(stored)
        made = await make()
        output: Json = made.model_dump(mode="json")
        step = StepOutput(key=key, step=key.partition(".")[0], model=None, output=output)
        go_on(await self._save(step), self._lease)
        return made

    async def emit(self, kind: EventKind, **fields: Any) -> None:
        """`fields` are those of `PipelineEvent`."""
        await emit(self._on_event, PipelineEvent(kind=kind, run_id=self.id, **fields))

    async def _save(self, step: StepOutput) -> LeaseState:
        return await run_shielded(self._db.runs.save_step(self._lease, step))


def _storable(text: str | None) -> str | None:
    """As PostgreSQL's jsonb takes it: without NUL, without halves of surrogate pairs."""
    return None if text is None else text.replace("\x00", "").encode("utf-8", "replace").decode()
