"""The queue of what the provider shall do next."""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from llm_common.exceptions import InvalidInputError
from llm_common.testing.faults import Fault
from llm_common.testing.wire import EndpointName, Reply

__all__ = ["Script", "Scripted"]

#: A fault; an answer in full; its text; its JSON as a model or a dict; the results of a search as a list.
Scripted = Fault | Reply | str | BaseModel | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_CHAT: Final = frozenset[EndpointName]({"chat", "messages"})
_SEARCH: Final = frozenset[EndpointName]({"search"})
_SCRIPTABLE: Final = frozenset[EndpointName]({"chat", "messages", "search", "embeddings"})


class Script:
    """Each item is used once, by the first request that it can answer."""

    def __init__(self) -> None:
        self._items: list[tuple[frozenset[EndpointName], Fault | Reply]] = []
        self._guard = threading.Lock()

    def extend(self, items: Sequence[Scripted], endpoint: EndpointName | None) -> None:
        if endpoint is not None and endpoint not in _SCRIPTABLE:
            raise InvalidInputError(
                f"endpoint {endpoint!r} cannot be scripted; use one of {', '.join(sorted(_SCRIPTABLE))}"
            )
        ready = [_ready(item) for item in items]
        with self._guard:
            self._items.extend((_endpoints(item, endpoint), item) for item in ready)

    def next_for(self, endpoint: EndpointName) -> Fault | Reply | None:
        with self._guard:
            for index, (endpoints, _) in enumerate(self._items):
                if endpoint in endpoints:
                    return self._items.pop(index)[1]
        return None

    def clear(self) -> int:
        with self._guard:
            left = len(self._items)
            self._items.clear()
            return left

    def __len__(self) -> int:
        with self._guard:
            return len(self._items)


def _ready(item: Scripted) -> Fault | Reply:
    if isinstance(item, (Fault, Reply)):
        return item
    if isinstance(item, str):
        return Reply(text=item)
    if isinstance(item, BaseModel):
        return Reply(text=item.model_dump_json())
    if isinstance(item, Mapping):
        return Reply(text=json.dumps(dict(item), ensure_ascii=False))
    return Reply(results=tuple(item))


def _endpoints(item: Fault | Reply, endpoint: EndpointName | None) -> frozenset[EndpointName]:
    """Where an item fits: a text answers no search, and results answer no chat."""
    fits = _SCRIPTABLE
    if isinstance(item, Reply) and (item.text is not None or item.tool_calls):
        fits = _CHAT
    elif isinstance(item, Reply) and item.results is not None:
        fits = _SEARCH
    if endpoint is None:
        return fits
    if endpoint not in fits:
        raise InvalidInputError(
            f"a {endpoint} request cannot be answered with that; script text, JSON or tool calls for a chat, and a "
            "list of results for a search"
        )
    return frozenset({endpoint})
