"""`llm-common costs` as its users meet it: as a process, for people, for programs and for spreadsheets."""

import csv
import io
import json
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from llm_common.cost_tracker import CostMetrics, CostTracker
from llm_common.db.database import Database
from llm_common.models import Budget, Outcome, PlannedCall
from tests.support.command_line import llm_common

DAYS = ("2026-01-30", "2026-01-31", "2026-02-01")


def costs(dsn: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return llm_common("costs", "--database-url", dsn, *arguments, **extra)


@pytest.fixture
async def spent(db: Database, dsn: str) -> str:
    """Three days of winter, and today: a paid call, a failed one and a cache hit."""
    tracker = CostTracker(db, project="p")
    for number, day in enumerate(DAYS):
        moment = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        await tracker.log_cost(CostMetrics("m[b]", "s", Decimal(number + 1) / 10**8, 10, moment))
    call = PlannedCall(kind="chat", model="glm", provider="zai", bound_nano=5_000_000, step="review", user_id="ann")
    answer = Outcome(model="glm", provider="zai", cost_nano=2_500_000, price_source="map", status="ok")
    await tracker.settle(await tracker.reserve(call), answer)
    hit = PlannedCall(kind="cache_hit", model="glm", provider="zai", bound_nano=0, step="review", user_id="ann")
    await tracker.record(hit, Outcome(model="glm", provider="zai", cost_nano=0, price_source="map", status="ok"))
    await CostTracker(db, project="q").log_cost(CostMetrics("other", "s", Decimal(3)))
    return dsn


async def test_the_overview_tells_today_the_month_the_forecast_and_the_breakdown(spent: str):
    """Without options: the project's own figures, cache hits apart from paid calls, nothing of other projects."""
    told = costs(spent, "--project", "p")
    assert told.returncode == 0, told.stderr
    [today] = [line for line in told.stdout.splitlines() if line.startswith("today")]
    assert today.split()[2:] == ["$0.002500", "1", "0", "1", "0"]
    assert "no forecast yet: it takes 3 full days of spending" in told.stdout or "by " in told.stdout
    assert "no budget is set" in told.stdout
    assert "glm" in told.stdout
    assert "other" not in told.stdout
    assert "\x1b" not in told.stdout
    assert "█" not in told.stdout


async def test_a_terminal_gets_bars(spent: str):
    """The dearest group has the longest bar; a name with markup in it is shown as it is."""
    told = costs(
        spent, "--project", "p", "--from", DAYS[0], "--to", DAYS[2], "--by", "day", TTY_COMPATIBLE="1", COLUMNS="140"
    )
    lines = [next(line for line in told.stdout.splitlines() if line.startswith(day)) for day in DAYS]
    assert [line.count("█") for line in lines] == [8, 16, 24]
    assert "m[b]" in costs(spent, "--project", "p", "--from", DAYS[0], "--to", DAYS[2]).stdout


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("model", {"m[b]": "0.000000060"}),
        ("step", {"s": "0.000000060"}),
        ("user", {"(none)": "0.000000060"}),
        ("day", dict(zip(DAYS, ("0.000000010", "0.000000020", "0.000000030"), strict=True))),
        ("project", {"p": "0.000000060"}),
        ("provider", {"(none)": "0.000000060"}),
    ],
)
async def test_json_and_csv_say_the_same_to_the_last_digit(spent: str, by: str, expected: dict[str, str]):
    """Both are for programs: amounts are plain decimals, and nothing else is on standard output."""
    place = ("--project", "p", "--from", DAYS[0], "--to", DAYS[2], "--by", by)
    document = json.loads(costs(spent, *place, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(costs(spent, *place, "--csv").stdout)))
    assert {row["key"]: row["cost_usd"] for row in rows} == expected
    assert {group["key"]: group["cost_usd"] for group in document["groups"]} == expected
    assert [group["calls"] for group in document["groups"]] == [int(row["calls"]) for row in rows]
    assert document["first"] == DAYS[0]


async def test_budgets_and_forecast_are_in_the_tables(db: Database, dsn: str):
    """A budget shows what is left of it and when it resets; with enough days the month's end is foretold."""
    tracker = CostTracker(db, project="p", budgets=[Budget(Decimal(9), "day")])
    today = datetime.now(UTC)
    for back in range(8):
        await tracker.log_cost(CostMetrics("m", "s", Decimal(2), timestamp=today - timedelta(days=back)))
    shown = costs(dsn, "--project", "p", LLM_COMMON_DAILY_BUDGET_USD="10")
    [budget] = [line for line in shown.stdout.splitlines() if line.startswith("project/day")]
    assert budget.split()[1:5] == ["$10.00", "$2.00", "$0.00", "$8.00"]
    ends = (today.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    expected = 2 * (min(7, today.day - 1) + ends.day - today.day + 1)
    assert f"by {ends:%Y-%m-%d}: about ${expected}.00, likely ${expected}.00 to ${expected}.00" in shown.stdout
    assert "from the last 7 full days" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "yesterday"), "2026-11-30"),
        (("--from", "2026-02-02", "--to", "2026-02-01"), "must not be after"),
        (("--json", "--csv"), "one of --json, --csv and --raw-csv"),
    ],
)
def test_bad_options_are_a_sentence_and_exit_code_2(dsn: str, arguments: tuple[str, ...], told: str):
    """Nothing is printed that a program could take for figures."""
    result = costs(dsn, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_ledger_says_so(dsn: str):
    """No calls, no error; CSV then is its header alone."""
    assert "no calls from" in costs(dsn).stdout
    assert costs(dsn, "--csv").stdout == "key,cost_usd,calls,failed,cache_hits,tokens\n"
