"""Several processes on one bucket in Postgres: the provider never gets more than the limit, however they hurry."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.programs import running

CALLERS = Path(__file__).with_name("limited_callers.py")
PROCESSES, TASKS, CALLS = 3, 6, 4
#: A burst of 30, then 271 in a minute.
PER_MINUTE, BURST, PACE = 300, 30, 271 / 60


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


def call(dsn: str) -> tuple[datetime, int, int]:
    """Let all processes call at once; when they began, and how many calls were answered and refused."""
    with ExitStack() as stack:
        callers = [stack.enter_context(running(CALLERS, dsn, TASKS, CALLS, PER_MINUTE)) for _ in range(PROCESSES)]
        assert [caller.line() for caller in callers] == ["ready"] * PROCESSES
        began = datetime.now(UTC)
        for caller in callers:
            caller.send("go")
        told = [caller.finish().split() for caller in callers]
    return began, sum(int(answered) for answered, _ in told), sum(int(refused) for _, refused in told)


def above_the_limit(provider, began: datetime) -> int:
    """By how many requests the limit was passed at the worst moment, counted from the first that could be sent.

    A request that arrives late makes room for none before it, so no slow machine fails this.
    """
    arrived = sorted((request.received_at - began).total_seconds() for request in provider.requests)
    return max(number - int(BURST + PACE * seconds) for number, seconds in enumerate(arrived, start=1))


def test_the_provider_never_gets_more_than_the_limit(provider, dsn):
    """Three processes with six tasks each: what does not fit is refused unsent, and what fits is used."""
    began, answered, refused = call(dsn)
    assert answered + refused == PROCESSES * TASKS * CALLS
    assert len(provider.requests) >= answered >= BURST
    assert refused > 0
    assert above_the_limit(provider, began) <= 0


def test_without_the_limiter_the_same_calls_pass_the_limit(provider):
    """The control."""
    began, answered, _ = call("-")
    assert answered == PROCESSES * TASKS * CALLS
    assert above_the_limit(provider, began) > 0
