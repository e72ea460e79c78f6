"""How often a worker looks into the queue."""

from llm_common.pipeline.polling import Pace


def test_a_full_queue_is_taken_from_at_once() -> None:
    """As long as there are runs, nothing is waited for."""
    pace = Pace().claimed(3, 0.0, 10.0)
    assert pace.next_at <= 10.0
    assert pace.slots(8) == 8


def test_an_empty_queue_is_looked_at_more_and_more_seldom() -> None:
    """A quarter of a second at first, five seconds at most; the first run that comes resets it."""
    pace, waits, now = Pace(), [], 0.0
    for _ in range(8):
        pace = pace.claimed(0, None, now)
        waits.append(pace.next_at - now)
        now = pace.next_at
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert pace.claimed(1, None, now).claimed(0, None, now).next_at == now + 0.25


def test_a_delayed_run_is_not_slept_through() -> None:
    """Where it is known when the next run is due, that is when the worker looks, however long it was idle before."""
    idle = Pace(idle=5.0)
    assert idle.claimed(0, 1.5, 10.0).next_at == 11.5
    assert idle.claimed(0, 3600.0, 10.0).next_at == 15.0
    assert idle.claimed(0, 0.001, 10.0).next_at == 10.25


def test_refusals_slow_down_and_successes_speed_up() -> None:
    """One run at a time, after longer and longer waits up to a minute, until something succeeds."""
    pace, waits, now = Pace(), [], 0.0
    for _ in range(10):
        pace = pace.refusal(now)
        waits.append(pace.next_at - now)
        now = pace.next_at
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert waits[-1] == 60.0
    assert pace.slots(50) == 1
    served = pace.success()
    assert served.slots(50) == 50
    assert served.next_at <= now


def test_refusals_that_come_together_count_once() -> None:
    """Fifty runs that are refused in the same moment are one closed door."""
    pace = Pace()
    for _ in range(50):
        pace = pace.refusal(3.0)
    assert pace.next_at == 3.25


def test_an_empty_look_shortens_no_wait() -> None:
    """While a provider refuses, neither an empty queue nor a claimed run brings the next try forward."""
    refused = Pace().refusal(0.0).refusal(0.25).refusal(0.75).refusal(1.75)
    assert refused.claimed(0, None, 1.8).next_at == refused.next_at
    assert refused.claimed(1, 0.0, 1.8).next_at == refused.next_at
