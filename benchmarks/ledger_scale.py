"""Reports over a short and a long history, what proves the counters, and what the rollup costs each write.

Both histories are of the same ninety days, models and steps; the long one has more calls a day.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any, Final, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.postgres import Server

__all__ = ["ReportTime", "RollupCost", "Scale", "reports", "rollup_cost"]

_PROJECT: Final = "bench"
_DAYS: Final = 90
_CHUNK: Final = 1_000_000
_LIMITS: Final = [
    {"scope": "project", "window": window, "limit_nano": 10**17, "alert_threshold": 0.8} for window in ("day", "month")
]
_OUTCOME: Final = {"cost_nano": 1_234_000, "price_source": "map", "status": "ok", "tokens_used": 900}

# Rows in the order of time, as calls write them. One in ten belongs to a run, one in twenty has a tag, one in fifty
# failed, one in a hundred cost more than its bound.
_FILL: LiteralString = """
INSERT INTO public.cost_tracking (
    id, project, day, "timestamp", kind, provider, model, model_answered, step, run_id, user_id, tags, input_tokens,
    cache_read_tokens, output_tokens, tokens_used, cost_usd, bound_usd, price_source, status, latency_ms)
SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, %(project)s, (at AT TIME ZONE 'UTC')::date, at,
    CASE WHEN n %% 40 = 0 THEN 'cache_hit' ELSE 'chat' END, 'provider-' || n %% 2, 'model-' || n %% 6,
    'model-' || n %% 6, 'step-' || n / 6 %% 4, CASE WHEN n %% 10 = 0 THEN 'run-' || n / 100 END, 'user-' || n %% 29,
    CASE WHEN n %% 20 = 0 THEN jsonb_build_object('team', 'team-' || n %% 7) ELSE '{}' END,
    n %% 3000, n %% 1000, n %% 700, n %% 3000 + n %% 1000 + n %% 700,
    (n %% 9973) * 0.000001, (n %% 9973) * CASE WHEN n %% 100 = 0 THEN 0.0000009 ELSE 0.000002 END, 'map',
    CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'ok' END, n %% 5000
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + n * %(step)s::interval) moment(at)
"""

# What each write adds up in its own transaction, in one go. `check_cost_ledger` proves that it is the same.
_ROLL_UP: LiteralString = """
INSERT INTO public.cost_daily
    (day, project, provider, model, step, calls, failed, cache_hits, tokens, cost_nano, over_nano)
SELECT c.day, c.project, c.provider, c.model, coalesce(c.step, ''), count(*), count(*) FILTER (WHERE c.status <> 'ok'),
    count(*) FILTER (WHERE c.kind = 'cache_hit'), sum(c.tokens_used), public.cost_nano(sum(c.cost_usd)),
    sum(public.cost_over(c))
FROM public.cost_tracking c GROUP BY 1, 2, 3, 4, 5;
INSERT INTO public.cost_daily_users (day, project, user_id, calls, failed, cache_hits, tokens, cost_nano, over_nano)
SELECT c.day, c.project, c.user_id, count(*), count(*) FILTER (WHERE c.status <> 'ok'),
    count(*) FILTER (WHERE c.kind = 'cache_hit'), sum(c.tokens_used), public.cost_nano(sum(c.cost_usd)),
    sum(public.cost_over(c))
FROM public.cost_tracking c WHERE c.user_id IS NOT NULL GROUP BY 1, 2, 3;
"""


@dataclass(frozen=True)
class Scale:
    """How many rows the short and the long history have, and how often each report is timed on each."""

    few: int
    many: int
    rounds: int


@dataclass(frozen=True)
class ReportTime:
    """Medians in milliseconds with `Scale.few` and with `Scale.many` rows, and their ratio."""

    name: str
    few_ms: float
    many_ms: float

    @property
    def ratio(self) -> float:
        return self.many_ms / self.few_ms


@dataclass(frozen=True)
class RollupCost:
    """Medians of one settlement in milliseconds. `without` is the same function in a copy that keeps no rollup.

    Commits do not wait for the disk here: that takes many times as long, and is the same for both.
    """

    with_ms: float
    without_ms: float

    @property
    def ratio(self) -> float:
        return self.with_ms / self.without_ms


def reports(server: Server, scale: Scale) -> list[ReportTime]:
    """Every report on both histories, in turn. Raises RuntimeError where counters and rows do not agree."""
    few, many = (_filled(server, f"with_{rows}", rows) for rows in (scale.few, scale.many))
    try:
        timed = [_compared(name, work, few, many, scale.rounds) for name, work in _WORKS.items()]
        return [*timed, _compared("check_cost_ledger()", _check, few, many, 1)]
    finally:
        few.close()
        many.close()


def rollup_cost(server: Server, rounds: int) -> RollupCost:
    """Settlements with and without the rollup, in turn, a reservation before each (which is not timed)."""
    kept, dropped = (_connect(server.create(name)) for name in ("rollup_kept", "rollup_dropped"))
    dropped.execute(
        "CREATE OR REPLACE FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) RETURNS void "
        "LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS ''"
    )
    took: dict[psycopg.Connection[Any], list[float]] = {kept: [], dropped: []}
    try:
        for connection in took:
            connection.execute("SET synchronous_commit = off")
        for _ in range(rounds + 1):
            for connection in random.sample([kept, dropped], 2):
                took[connection].append(_settle(connection, _reserve(connection)))
        # The first of each warms its connection up.
        return RollupCost(median(took[kept][1:]), median(took[dropped][1:]))
    finally:
        kept.close()
        dropped.close()


def _connect(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, autocommit=True)


def _filled(server: Server, name: str, rows: int) -> psycopg.Connection[Any]:
    connection = _connect(server.create(name))
    start = datetime.combine(_first_day(), datetime.min.time(), UTC)
    where = {"project": _PROJECT, "start": start, "step": timedelta(days=_DAYS) / rows}
    for first in range(0, rows, _CHUNK):
        connection.execute(_FILL, {**where, "first": first, "last": min(first + _CHUNK, rows) - 1})
    connection.execute(_ROLL_UP)
    connection.execute("VACUUM (ANALYZE)")
    connection.execute("CHECKPOINT")
    _reserve(connection)  # opens the windows of today and of this month
    return connection


def _first_day() -> date:
    return datetime.now(UTC).date() - timedelta(days=_DAYS - 1)


def _compared(
    name: str,
    work: Callable[[psycopg.Connection[Any]], object],
    few: psycopg.Connection[Any],
    many: psycopg.Connection[Any],
    rounds: int,
) -> ReportTime:
    took: dict[psycopg.Connection[Any], list[float]] = {few: [], many: []}
    for _ in range(rounds):
        for connection in random.sample([few, many], 2):
            took[connection].append(_timed(work, connection))
    return ReportTime(name, median(took[few]), median(took[many]))


def _timed(work: Callable[[psycopg.Connection[Any]], object], connection: psycopg.Connection[Any]) -> float:
    started = time.perf_counter()
    work(connection)
    return (time.perf_counter() - started) * 1000


def _day(connection: psycopg.Connection[Any]) -> None:
    day = _first_day() + timedelta(days=_DAYS // 2)
    connection.execute("SELECT public.get_daily_cost(%s, %s)", (day, _PROJECT)).fetchall()


def _month(connection: psycopg.Connection[Any]) -> None:
    day = _first_day() + timedelta(days=_DAYS // 2)
    connection.execute("SELECT public.get_monthly_cost(%s, %s, %s)", (day.year, day.month, _PROJECT)).fetchall()


def _breakdown(days: int, group_by: str) -> Callable[[psycopg.Connection[Any]], None]:
    def work(connection: psycopg.Connection[Any]) -> None:
        last = _first_day() + timedelta(days=_DAYS - 1)
        arguments = (last - timedelta(days=days - 1), last, group_by, _PROJECT)
        connection.execute("SELECT public.cost_breakdown(%s, %s, %s, %s)", arguments).fetchall()

    return work


def _reserve(connection: psycopg.Connection[Any]) -> str:
    who = {"project": _PROJECT, "user_id": "user-0", "step": "step-0"}
    call = {**who, "kind": "chat", "provider": "provider-0", "model": "model-0", "bound_nano": 2_000_000}
    row = connection.execute("SELECT public.reserve_cost(%s, %s)", (Jsonb(call), Jsonb(_LIMITS))).fetchone()
    assert row is not None
    return row[0]["reservation_id"]


def _settle(connection: psycopg.Connection[Any], reservation_id: str) -> float:
    started = time.perf_counter()
    connection.execute("SELECT public.settle_cost(%s, %s)", (reservation_id, Jsonb(_OUTCOME))).fetchone()
    return (time.perf_counter() - started) * 1000


def _pair(connection: psycopg.Connection[Any]) -> None:
    _settle(connection, _reserve(connection))


def _check(connection: psycopg.Connection[Any]) -> None:
    wrong = connection.execute("SELECT * FROM public.check_cost_ledger(%s)", (_PROJECT,)).fetchall()
    if wrong:
        raise RuntimeError(f"the ledger's counters do not agree with its rows: {wrong[:5]}")


_WORKS: Final = {
    "one day": _day,
    "one month": _month,
    "90 days by model": _breakdown(_DAYS, "model"),
    "90 days by step": _breakdown(_DAYS, "step"),
    "90 days by day": _breakdown(_DAYS, "day"),
    "90 days by user": _breakdown(_DAYS, "user"),
    "reserve + settle": _pair,
}
