"""One search answer as the memory tier holds it."""

import sys
from dataclasses import dataclass

from llm_common.search.result import SearchResult

__all__ = ["Entry"]

#: What an entry and a result weigh besides their texts: objects, dictionaries, the key. Measured, rounded up.
_ENTRY_BYTES = 700
_RESULT_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. `folded` is the query's folded text, by which it can be invalidated."""

    folded: str
    results: tuple[SearchResult, ...]

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        texts = (text for r in self.results for text in (r.title, r.url, r.snippet, r.published_date))
        return _ENTRY_BYTES + len(self.results) * _RESULT_BYTES + sum(map(sys.getsizeof, texts))
