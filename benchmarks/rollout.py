"""`python -m benchmarks rollout`: how often a guardrail trips where it must not, and how soon where it must.

Rollouts are simulated call by call, and the guardrail looks after each call. The naive rule beside it is the
documents': errors above 5 %, P95 above and cost above the ratio, from 20 calls on.
"""

import json
import random
from argparse import ArgumentParser
from bisect import insort
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from typing import Final

from rich.console import Console
from rich.table import Table

from llm_common.db.functions.rollout import ArmStats
from llm_common.rollout import Guardrail
from llm_common.rollout.guardrail import rollback_reason

RULE: Final = Guardrail()
_SHOWN: Final = (20, 40, 60, 100, 150, 200, 250, 300)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Two paths. `share` of the calls goes to the new one; the rollout ends after `calls`, or `new_calls` of the new.

    Latencies and costs are lognormal with the given spread of their logarithm, those of the new path `slower` and
    `dearer` times as large; a spread of 0 leaves them out.
    """

    name: str
    new_errors: float
    old_errors: float
    slower: float = 1.0
    dearer: float = 1.0
    spread: float = 0.0
    share: float = 0.1
    calls: int = 2_000
    new_calls: int | None = None
    goal: str = ""


_ENDLESS: Final = 10**6
SCENARIOS: Final = (
    Scenario("alike, 1 % errors", 0.01, 0.01, goal="≤ 1 %"),
    Scenario("alike, 3 % errors", 0.03, 0.03, goal="≤ 1 %"),
    Scenario("alike, 4.9 % errors", 0.049, 0.049, goal="≤ 1 %"),
    Scenario("alike, with times and costs", 0.01, 0.01, spread=0.5, goal="≤ 1 %"),
    Scenario("20 % errors against 1 %", 0.2, 0.01, calls=_ENDLESS, new_calls=60, goal="≥ 95 % by 60"),
    Scenario("10 % errors against 1 %", 0.1, 0.01, calls=_ENDLESS, new_calls=250, goal="≥ 90 % by 250"),
    Scenario("twice the P95", 0.0, 0.0, slower=2.0, spread=0.5, calls=_ENDLESS, new_calls=300, goal="≥ 90 % by 300"),
    Scenario("twice the cost", 0.0, 0.0, dearer=2.0, spread=0.4, calls=_ENDLESS, new_calls=100, goal="≥ 95 % by 100"),
)


class _Arm:
    def __init__(self) -> None:
        self.calls = self.errors = 0
        self.seconds: list[float] = []
        self.cost = self.squares = 0.0

    def add(self, error: bool, seconds: float | None, cost: float | None) -> None:  # noqa: FBT001
        self.calls += 1
        self.errors += error
        if seconds is not None and cost is not None and not error:
            insort(self.seconds, seconds)
            self.cost += cost
            self.squares += cost * cost

    def stats(self, slow_seconds: float | None) -> ArmStats:
        known = len(self.seconds)
        if not known:
            return ArmStats(calls=self.calls, errors=self.errors)
        mean = self.cost / known
        variance = max(0.0, (self.squares - known * mean * mean) / max(1, known - 1))
        slow = 0
        if slow_seconds is not None:
            low, high = 0, known
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self.seconds[middle] <= slow_seconds else (low, middle)
            slow = known - low
        p95 = self.seconds[ceil(0.95 * known) - 1]
        return ArmStats(self.calls, self.errors, known, p95, slow, known, mean * 1e6, variance**0.5 * 1e6)


def naive(new: ArmStats, old: ArmStats) -> bool:
    """The documents' rule: figures compared as they are, from 20 calls on."""
    if new.calls < RULE.min_calls:
        return False
    slow = (new.p95_seconds or 0.0) > RULE.latency_ratio * (old.p95_seconds or float("inf"))
    dear = (new.mean_cost_nano or 0.0) > RULE.cost_ratio * (old.mean_cost_nano or float("inf"))
    return new.errors > RULE.max_error_rate * new.calls or slow or dear


def trips(scenario: Scenario, seed: int) -> tuple[int | None, int | None]:
    """The call of the new path at which the guardrail trips, and the naive rule; None for never."""
    chance = random.Random(seed)
    new, old = _Arm(), _Arm()
    ours: int | None = None
    theirs: int | None = None
    for _ in range(scenario.calls):
        is_new = chance.random() < scenario.share
        arm, rate = (new, scenario.new_errors) if is_new else (old, scenario.old_errors)
        seconds = cost = None
        if scenario.spread:
            seconds = chance.lognormvariate(0.0, scenario.spread) * (scenario.slower if is_new else 1.0)
            cost = chance.lognormvariate(0.0, scenario.spread) * (scenario.dearer if is_new else 1.0)
        arm.add(chance.random() < rate, seconds, cost)
        if is_new or scenario.spread:
            old_stats = old.stats(None)
            slow = None if old_stats.p95_seconds is None else RULE.latency_ratio * old_stats.p95_seconds
            new_stats = new.stats(slow)
            if theirs is None and naive(new_stats, old_stats):
                theirs = new.calls
            if ours is None and rollback_reason(new_stats, old_stats, RULE, round(scenario.share * 100)):
                ours = new.calls
        if (ours and theirs) or (scenario.new_calls and new.calls >= scenario.new_calls):
            break
    return ours, theirs


def share_within(found: Sequence[int | None], calls: int) -> float:
    return sum(one is not None and one <= calls for one in found) / len(found)


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks rollout", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=10_000, help="of each scenario (default 10000)")
    parser.add_argument("--share", type=float, default=0.1, help="of the calls that the new path gets (default 0.1)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    wanted = parser.parse_args(arguments)
    table = Table("scenario", "wanted", "guardrail", "naive rule", *(f"≤ {calls}" for calls in _SHOWN), box=None)
    figures: list[dict[str, object]] = []
    with ProcessPoolExecutor() as pool:
        for scenario in (replace(one, share=wanted.share) for one in SCENARIOS):
            found = list(pool.map(partial(trips, scenario), range(wanted.rollouts), chunksize=50))
            ours, theirs = [one for one, _ in found], [other for _, other in found]
            within = scenario.new_calls or scenario.calls
            curve = [share_within(ours, calls) for calls in _SHOWN]
            tripped, beside = share_within(ours, within), share_within(theirs, within)
            figures.append({**asdict(scenario), "tripped": tripped, "naive": beside, "curve": curve})
            shown = [f"{value:.0%}" if calls <= within else "" for value, calls in zip(curve, _SHOWN, strict=True)]
            table.add_row(scenario.name, scenario.goal, f"{tripped:.2%}", f"{beside:.1%}", *shown)
    if wanted.json:
        print(json.dumps({"rollouts": wanted.rollouts, "share": wanted.share, "scenarios": figures}, indent=2))
        return
    console = Console(width=140)
    console.print(f"{wanted.rollouts} rollouts of each; tripped within so many calls of the new path", highlight=False)
    console.print(table)
