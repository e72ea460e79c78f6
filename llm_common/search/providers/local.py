"""A search provider over documents at hand: for offline work, demos and tests. No index, no network, no price.

Scores are BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) with the usual
k1 = 1.2 and b = 0.75.
"""

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

from llm_common._text.plain_text import decode_plain_text
from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.search.filters import Abilities
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import SearchRequest, fold
from llm_common.search.result import SearchResult
from llm_common.search.urls import checked_url

__all__ = ["Document", "LocalProvider", "read_folder"]

_log = logging.getLogger(__name__)

_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_SNIPPET_CHARS = 600
_SUFFIXES = frozenset({".txt", ".md"})
_MAX_FILE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Document:
    """One page. `published` is a date as text, such as `2026-03-01`. A `url` that is none is an `InvalidInputError`."""

    url: str
    title: str
    text: str
    published: str | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "url", checked_url(self.url))
        except ValueError as error:
            raise InvalidInputError(
                f"document {self.url!r:.200} has no http or https address to be found by: {error}"
            ) from None


@dataclass(frozen=True, slots=True)
class _Indexed:
    document: Document
    words: Counter[str]
    length: int


class LocalProvider:
    """Finds documents that share words with the query. Documents are read once; make a new one after they change."""

    name = "local"
    engine = "bm25"
    abilities = Abilities(domains="none", recency=False)
    price_usd = Decimal(0)

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = [_index(document) for document in documents]
        self._mean_length = sum(d.length for d in self._documents) / len(self._documents) if self._documents else 0.0
        self._found_in: Counter[str] = Counter(word for d in self._documents for word in d.words)
        digest = hashlib.sha256()
        for indexed in self._documents:
            digest.update(repr(indexed.document).encode("utf-8", "replace"))
        self.identity = f"{self.name}@{digest.hexdigest()}"

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:  # noqa: ARG002 (the protocol's; nothing here waits)
        terms = set(_words(request.text))
        scored = [(self._score(terms, indexed), indexed) for indexed in self._documents]
        best = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: (-pair[0], pair[1].document.url))
        return ProviderAnswer(tuple(_result(d.document, terms, score) for score, d in best[: request.count]))

    def _score(self, terms: set[str], indexed: _Indexed) -> float:
        total = len(self._documents)
        score = 0.0
        for term in terms & indexed.words.keys():
            holders, frequency = self._found_in[term], indexed.words[term]
            rarity = math.log(1 + (total - holders + 0.5) / (holders + 0.5))
            length = 1 - _B + _B * indexed.length / self._mean_length
            score += rarity * frequency * (_K1 + 1) / (frequency + _K1 * length)
        return score

    async def aclose(self) -> None:
        """Nothing is held."""


def read_folder(folder: Path) -> list[Document]:
    """The .txt and .md files of a folder and below. A first line `url: https://...` gives a file its address.

    Without one, the address is `https://local.invalid/<path>`. The title is the first heading or line. What is no plain
    text, whatever its name, is left out with a warning.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"{str(folder)!r} is not a folder; provider 'local' searches the files of one")
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in _SUFFIXES and path.is_file())
    found = [_read(path, folder) for path in paths if path.stat().st_size <= _MAX_FILE_BYTES]
    return [document for document in found if document is not None]


def _read(path: Path, folder: Path) -> Document | None:
    try:
        lines = decode_plain_text(path.read_bytes(), str(path)).splitlines()
    except InvalidInputError as error:
        _log.warning("a file is not searched: %s", error)
        return None
    url = f"https://local.invalid/{quote(path.relative_to(folder).as_posix())}"
    if lines[0].lower().startswith("url:"):
        url = lines.pop(0)[4:].strip()
    title = next((line.lstrip("# ").strip() for line in lines if line.strip("# ")), path.stem)
    return Document(url=url, title=title[:200], text="\n".join(lines))


def _words(text: str) -> Sequence[str]:
    return _WORD.findall(fold(text))


def _index(document: Document) -> _Indexed:
    words = _words(f"{document.title} {document.text}")
    return _Indexed(document, Counter(words), len(words))


def _result(document: Document, terms: set[str], score: float) -> SearchResult:
    return SearchResult(
        title=document.title,
        url=document.url,
        snippet=_snippet(document.text, terms),
        published_date=document.published,
        relevance_score=round(score, 6),
    )


def _snippet(text: str, terms: set[str]) -> str:
    """The paragraph that has most of the terms."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    best = max(paragraphs, key=lambda part: len(terms.intersection(_words(part))), default="")
    return best[:_SNIPPET_CHARS]
