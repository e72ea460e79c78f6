"""The SQL functions of migrations/*_ledger.sql.

Money crosses as integer nano-dollars; `Decimal` dollars are what comes out for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

from llm_common.db.errors import register_refusal
from llm_common.db.transport import Call, Json
from llm_common.exceptions import BudgetExceededError, DatabaseError
from llm_common.models import BudgetWindow, CostMetrics, Outcome, PlannedCall
from llm_common.money import budget_refusal, to_nano, to_usd

__all__ = [
    "BudgetAlert",
    "BudgetStatus",
    "CostForecast",
    "CostSummary",
    "Entry",
    "LedgerFunctions",
    "Limit",
    "external_json",
    "outcome_json",
    "planned_json",
    "read_entry",
]


@dataclass(frozen=True, slots=True)
class Limit:
    """What one window of one scope may spend; `alert_threshold` is the fraction of it at which to tell."""

    scope: str
    window: str
    limit_nano: int
    alert_threshold: float | None = None

    def as_json(self) -> dict[str, Json]:
        return {
            "scope": self.scope,
            "window": self.window,
            "limit_nano": self.limit_nano,
            "alert_threshold": self.alert_threshold,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetAlert:
    """A window's spend crossed a threshold of its limit. `scope` is `project`, `user:NAME`, `tag:NAME=VALUE`, ..."""

    project: str
    scope: str
    window: BudgetWindow
    starts: date
    threshold: Decimal
    limit_usd: Decimal
    spent_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """A window as it stands. `limit_usd` is None where nobody limits it, `resets_at` for a total.

    `over_usd` is the part of `spent_usd` that calls cost above what was set aside for them.
    """

    scope: str
    window: BudgetWindow
    starts: date
    limit_usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal
    over_usd: Decimal
    resets_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSummary:
    """The calls of some days under one key: a model, a step, ... `failed` and `cache_hits` are among `calls`."""

    key: str
    cost_usd: Decimal
    calls: int
    failed: int
    cache_hits: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostForecast:
    """Where a month's spend is heading: `expected_usd` at the end of `ends`, likely from `low_usd` to `high_usd`.

    Foretold from `mean_usd`, what the last `basis_days` full days (at most 7) cost on average. With fewer than 3 of
    them nothing is foretold, and the three amounts are None. The formula is told at `cost_forecast` in
    migrations/*_ledger.sql.
    """

    as_of: date
    ends: date
    spent_usd: Decimal
    basis_days: int
    mean_usd: Decimal | None
    expected_usd: Decimal | None
    low_usd: Decimal | None
    high_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a change of the ledger answers. `changed` is False for a repetition; tell of each of `alerts`, once."""

    changed: bool
    spent_today_nano: int
    alerts: tuple[BudgetAlert, ...] = ()


class LedgerFunctions:
    """Reserve, extend, settle, release, record; and what the ledger says."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def reserve(self, call: Mapping[str, Json], limits: Sequence[Limit], *, hold_seconds: float) -> Entry:
        """`call` is of `planned_json`. Raises `BudgetExceededError`; repeating it with the same id is harmless."""
        arguments: dict[str, Json] = {"call": dict(call), "limits": _limits(limits), "hold_seconds": hold_seconds}
        return read_entry(await self._call("reserve_cost", arguments))

    async def extend(
        self,
        reservation_id: str,
        more_nano: int,
        *,
        extension_id: str,
        model: str | None = None,
        provider: str | None = None,
        limits: Sequence[Limit] = (),
    ) -> Entry:
        """With a model, all that is set aside must also fit its `limits`.

        Raises `BudgetExceededError`; repeating it with the same `extension_id` is harmless.
        """
        arguments: dict[str, Json] = {
            "reservation_id": reservation_id,
            "more_nano": more_nano,
            "extension_id": extension_id,
            "model": model,
            "provider": provider,
            "limits": _limits(limits),
        }
        return read_entry(await self._call("extend_cost", arguments))

    async def adopt(
        self, call: Mapping[str, Json], limits: Sequence[Limit], *, hold_seconds: float, reserved_at: datetime
    ) -> Entry:
        """Take in a reservation that was made without the database. Never refused; repeating it is harmless."""
        arguments: dict[str, Json] = {
            "call": dict(call),
            "limits": _limits(limits),
            "hold_seconds": hold_seconds,
            "reserved_at": reserved_at.isoformat(),
        }
        return read_entry(await self._call("adopt_cost", arguments))

    async def settle(self, reservation_id: str, outcome: Mapping[str, Json]) -> Entry:
        """`outcome` is of `outcome_json`. Raises `DatabaseError` for a reservation that was released."""
        arguments: dict[str, Json] = {"reservation_id": reservation_id, "outcome": dict(outcome)}
        return read_entry(await self._call("settle_cost", arguments))

    async def release(self, reservation_id: str) -> bool:
        """Whether there was something to give back."""
        return bool(await self._call("release_cost", {"reservation_id": reservation_id}))

    async def record(self, cost: Mapping[str, Json], limits: Sequence[Limit]) -> Entry:
        """A row without a reservation; `limits` are for their alerts only. The same id or key changes nothing."""
        arguments: dict[str, Json] = {"cost": dict(cost), "limits": _limits(limits)}
        return read_entry(await self._call("record_cost", arguments))

    async def expire(self, *, max_rows: int, project: str | None) -> tuple[int, tuple[BudgetAlert, ...]]:
        """Charge dead reservations at their bound, of one project or of all; gives their number."""
        answer = _fields(await self._call("expire_reservations", {"max_rows": max_rows, "project": project}))
        return _int(answer, "expired"), _alerts(answer)

    async def total(self, project: str, from_day: date | None, to_day: date | None) -> CostSummary:
        """The days are both counted; None is the project's today."""
        arguments: dict[str, Json] = {
            "project": project,
            "from_day": from_day.isoformat() if from_day else None,
            "to_day": to_day.isoformat() if to_day else None,
        }
        return _summary({"key": project, **_fields(await self._call("cost_total", arguments))})

    async def breakdown(
        self, start_date: date, end_date: date, *, group_by: str, project: str | None
    ) -> list[CostSummary]:
        """The days are both counted; dearest first. Without a project, of all of them."""
        arguments: dict[str, Json] = {
            "start_date": start_date.isoformat(),
            "end_date": end_date.isoformat(),
            "group_by": group_by,
            "project": project,
        }
        return [_summary(group) for group in _list(await self._call("cost_breakdown", arguments))]

    async def forecast(self, project: str, as_of: date | None) -> CostForecast:
        """The spend of `as_of`'s month to its end; None is the project's today."""
        arguments: dict[str, Json] = {"project": project, "as_of": as_of.isoformat() if as_of else None}
        return _forecast(await self._call("cost_forecast", arguments))

    async def budget_status(self, project: str, limits: Sequence[Limit]) -> list[BudgetStatus]:
        """The windows that are open now, the project's own first."""
        answer = await self._call("budget_status", {"project": project, "limits": _limits(limits)})
        return [_status(window) for window in _list(answer)]

    async def set_time_zone(self, project: str, time_zone: str) -> None:
        """Raises `InvalidInputError` for a name that PostgreSQL does not know."""
        await self._call("set_cost_time_zone", {"project": project, "time_zone": time_zone})


def planned_json(call: PlannedCall, *, project: str, call_id: str) -> dict[str, Json]:
    """A planned call for `reserve_cost`; `call_id` becomes the reservation's id and the row's."""
    return {
        "id": call_id,
        "project": project,
        "kind": call.kind,
        "provider": call.provider,
        "model": call.model,
        "bound_nano": call.bound_nano,
        "step": call.step,
        "run_id": call.run_id,
        "user_id": call.user_id,
        "tags": dict(call.tags),
        "idempotency_key": call.idempotency_key,
    }


def outcome_json(outcome: Outcome) -> dict[str, Json]:
    """An outcome for `settle_cost`, under the names of the row's columns. The answer's text stays out of it."""
    usage = outcome.usage
    return {
        "model": outcome.model,
        "provider": outcome.provider,
        "model_answered": outcome.answered_by,
        "cost_nano": outcome.cost_nano,
        "listed_nano": outcome.listed_nano,
        "price_source": outcome.price_source,
        "status": outcome.status,
        "latency_ms": round(outcome.seconds * 1000),
        "attempts": outcome.attempts,
        "calls": outcome.calls,
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "tokens_used": usage.total_tokens,
    }


def external_json(metrics: CostMetrics, *, project: str, call_id: str, key: str | None) -> dict[str, Json]:
    """A cost that happened elsewhere, for `record_cost`."""
    return {
        "id": call_id,
        "project": project,
        "kind": "external",
        "model": metrics.model,
        "step": metrics.step or None,
        "cost_nano": to_nano(metrics.cost_usd, name="cost_usd"),
        "tokens_used": metrics.tokens_used,
        "timestamp": metrics.timestamp.isoformat(),
        "idempotency_key": key,
    }


def read_entry(answer: Json) -> Entry:
    """What `reserve_cost`, `extend_cost`, `settle_cost` and `record_cost` return."""
    fields = _fields(answer)
    changed = fields.get("settled", fields.get("recorded", fields.get("adopted", True)))
    return Entry(bool(changed), _int(fields, "spent_today_nano"), _alerts(fields))


def _limits(limits: Sequence[Limit]) -> list[Json]:
    return [limit.as_json() for limit in limits]


def _alerts(fields: Mapping[str, Json]) -> tuple[BudgetAlert, ...]:
    return tuple(_alert(_fields(alert)) for alert in _list(fields.get("alerts") or []))


def _alert(fields: Mapping[str, Json]) -> BudgetAlert:
    return BudgetAlert(
        project=str(fields["project"]),
        scope=str(fields["scope"]),
        window=cast("BudgetWindow", fields["window"]),
        starts=date.fromisoformat(str(fields["starts"])),
        threshold=Decimal(str(fields["threshold"])),
        limit_usd=_usd(fields, "limit_nano"),
        spent_usd=_usd(fields, "spent_nano"),
    )


def _summary(answer: Json) -> CostSummary:
    fields = _fields(answer)
    return CostSummary(
        key=str(fields["key"]),
        cost_usd=_usd(fields, "cost_nano"),
        calls=_int(fields, "calls"),
        failed=_int(fields, "failed"),
        cache_hits=_int(fields, "cache_hits"),
        tokens=_int(fields, "tokens"),
    )


def _forecast(answer: Json) -> CostForecast:
    fields = _fields(answer)
    return CostForecast(
        as_of=date.fromisoformat(str(fields["as_of"])),
        ends=date.fromisoformat(str(fields["ends"])),
        spent_usd=_usd(fields, "spent_nano"),
        basis_days=_int(fields, "basis_days"),
        mean_usd=_usd_or_none(fields, "mean_nano"),
        expected_usd=_usd_or_none(fields, "expected_nano"),
        low_usd=_usd_or_none(fields, "low_nano"),
        high_usd=_usd_or_none(fields, "high_nano"),
    )


def _status(answer: Json) -> BudgetStatus:
    fields = _fields(answer)
    resets = fields["resets_at"]
    return BudgetStatus(
        scope=str(fields["scope"]),
        window=cast("BudgetWindow", fields["window"]),
        starts=date.fromisoformat(str(fields["starts"])),
        limit_usd=_usd_or_none(fields, "limit_nano"),
        spent_usd=_usd(fields, "spent_nano"),
        reserved_usd=_usd(fields, "reserved_nano"),
        over_usd=_usd(fields, "over_nano"),
        resets_at=None if resets is None else datetime.fromisoformat(str(resets)),
    )


def _fields(answer: Json) -> dict[str, Json]:
    if not isinstance(answer, dict):
        raise DatabaseError(f"the ledger's SQL gave {type(answer).__name__}, no object; run `llm-common migrate`")
    return answer


def _list(answer: Json) -> list[Json]:
    if not isinstance(answer, list):
        raise DatabaseError(f"the ledger's SQL gave {type(answer).__name__}, no list; run `llm-common migrate`")
    return answer


def _int(fields: Mapping[str, Json], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int):
        raise DatabaseError(f"the ledger's SQL gave no integer {name!r}; run `llm-common migrate`")
    return value


def _usd(fields: Mapping[str, Json], name: str) -> Decimal:
    return to_usd(_int(fields, name))


def _usd_or_none(fields: Mapping[str, Json], name: str) -> Decimal | None:
    return None if fields.get(name) is None else _usd(fields, name)


def _refusal(_message: str, detail: Mapping[str, Any]) -> BudgetExceededError:
    """LC001. `resets_in` are seconds by the database's clock, which opens the budget again."""
    resets, seconds = detail["resets_at"], detail.get("resets_in")
    return budget_refusal(
        budget=str(detail["budget"]),
        limit_nano=int(detail["limit_nano"]),
        spent_nano=int(detail["spent_nano"]),
        reserved_nano=int(detail["reserved_nano"]),
        requested_nano=int(detail["requested_nano"]),
        resets_at=datetime.fromisoformat(str(resets)) if resets else None,
        seconds_left=None if seconds is None else float(seconds),
    )


register_refusal("LC001", _refusal)
