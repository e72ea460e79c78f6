"""How fast a worker takes runs from the queue: at once while there are some, seldom while there are none. Pure."""

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Pace"]

#: Seconds between two looks at an empty queue, and between two tries while a budget or a provider refuses: at first,
#: and at most. Both double each time.
_FIRST, _IDLE_AT_MOST, _REFUSED_AT_MOST = 0.25, 5.0, 60.0
_FACTOR: Final = 2.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`next_at`: when to claim again. `idle` and `refused`: the seconds that were waited last, 0 where all is well.

    While a budget or a provider refuses, one run at a time finds out whether it still does: a backlog of 100,000 is not
    sent against a closed door.
    """

    next_at: float = 0.0
    idle: float = 0.0
    refused: float = 0.0

    def slots(self, concurrency: int) -> int:
        """How many runs may be worked on at the same time."""
        return 1 if self.refused else concurrency

    def claimed(self, count: int, wait_seconds: float | None, now: float) -> "Pace":
        """After a claim that brought `count` runs; the next one is due after `wait_seconds`, None where none waits."""
        if count:
            return replace(self, idle=0.0)
        idle = min(max(self.idle * _FACTOR, _FIRST), _IDLE_AT_MOST)
        wait = idle if wait_seconds is None else min(idle, max(wait_seconds, _FIRST))
        return replace(self, next_at=max(self.next_at, now + wait), idle=idle)

    def refusal(self, now: float) -> "Pace":
        """After a run that a budget, a limit or an outage sent back. Those that come together count once."""
        if now < self.next_at:
            return self
        refused = min(max(self.refused * _FACTOR, _FIRST), _REFUSED_AT_MOST)
        return replace(self, next_at=now + refused, refused=refused)

    def success(self) -> "Pace":
        """After a run that was carried out."""
        return replace(self, refused=0.0, next_at=0.0) if self.refused else self
