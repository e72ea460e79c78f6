"""What arrived, and what became of it. Written by the server's thread, read by any."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from llm_common.testing.wire import EndpointName, ProviderName, RecordedRequest

__all__ = ["Entry", "Journal"]

_SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key", "cookie"})


@dataclass(slots=True, kw_only=True)
class Entry:
    """A request while it is worked on."""

    method: str
    path: str
    provider: ProviderName
    endpoint: EndpointName
    headers: Mapping[str, str]
    body: Any
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    outcome: str = "open"
    client_left: bool = False
    chunks_sent: int = 0
    cost_usd: Decimal | None = None
    finished: bool = False

    def freeze(self) -> RecordedRequest:
        return RecordedRequest(
            method=self.method,
            path=self.path,
            provider=self.provider,
            endpoint=self.endpoint,
            headers={k: "redacted" if k.lower() in _SECRET_HEADERS else v for k, v in self.headers.items()},
            body=self.body,
            received_at=self.received_at,
            outcome=self.outcome,
            client_left=self.client_left,
            chunks_sent=self.chunks_sent,
            cost_usd=self.cost_usd,
        )


class Journal:
    """The entries in order of arrival."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._changed = threading.Condition(threading.RLock())

    def add(self, entry: Entry) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def finish(self, entry: Entry) -> None:
        with self._changed:
            entry.finished = True
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Block this thread until `condition` holds; False if it does not within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def _all(self) -> list[Entry]:
        with self._changed:
            return list(self._entries)

    def snapshot(self) -> list[RecordedRequest]:
        return [entry.freeze() for entry in self._all()]

    def arrived(self) -> int:
        return len(self._all())

    def unfinished(self) -> int:
        return sum(not entry.finished for entry in self._all())

    def billed_usd(self) -> Decimal:
        return sum((entry.cost_usd or Decimal(0) for entry in self._all()), Decimal(0))
