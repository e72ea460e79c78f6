"""What fits into the models' windows: the parts of a text, and the evidence beside each part."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from llm_common._text.chunking import Part, split
from llm_common._text.delimiting import escape_tags
from llm_common._text.tokens import count, estimate, text_bound
from llm_common.exceptions import ContextWindowError
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.pipeline.part_context import PartContext, Passage
from llm_common.pipeline.prompts import instructions, passage_block
from llm_common.pipeline.schemas import AnalysisResult, Evidence, Source
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.subject import Subject

__all__ = ["WindowCapacity", "build_part_context", "fits", "split_to_fit", "window_capacity"]

#: Of a window without instructions and answer, a tenth stays free, because models count tokens differently. The rest is
#: for text, evidence, and a draft with its review.
_MARGIN: Final = 0.1
_TEXT, _TEXT_AND_EVIDENCE = 0.6, 0.75
_LEAST: Final = 400
_WORD: Final = re.compile(r"\w{4,}")


@dataclass(frozen=True, slots=True)
class WindowCapacity:
    """Tokens for text, evidence, draft and review in the smallest window; None where no model's window is known."""

    tokens: int | None

    @property
    def text(self) -> int | None:
        return None if self.tokens is None else int(self.tokens * _TEXT)

    @property
    def text_and_evidence(self) -> int | None:
        return None if self.tokens is None else int(self.tokens * _TEXT_AND_EVIDENCE)


def window_capacity(
    spec: AnalysisSpec[AnalysisResult], models: Iterable[tuple[str, ModelInfo | None, int]]
) -> WindowCapacity:
    """`models`: name, what is known, and the tokens of its longest answer.

    Raises `ContextWindowError` for a model whose window hardly holds the instructions.
    """
    fixed = estimate(instructions(spec))
    left = [_tokens_left(name, info, answer, fixed) for name, info, answer in models if info and info.max_input_tokens]
    return WindowCapacity(min(left, default=None))


def _tokens_left(name: str, info: ModelInfo, answer: int, fixed: int) -> int:
    window = info.max_input_tokens or 0
    left = int((window - answer) * (1 - _MARGIN)) - fixed
    if left < _LEAST:
        raise ContextWindowError(
            f"{name} takes {window:,} tokens, and the instructions alone are about {fixed:,}. Nothing was sent. "
            "Choose a model with a larger window",
            provider=info.provider,
            model=name,
        )
    return left


def fits(text: str, capacity: WindowCapacity) -> bool:
    """Whether a text certainly fits in one part: by the bound of its tokens, which costs nothing."""
    return capacity.text is None or text_bound(text) <= capacity.text


async def split_to_fit(text: str, capacity: WindowCapacity) -> tuple[Part, ...]:
    """The parts of a text; a single one where it fits after all."""
    if capacity.text is None:
        return (Part.whole(text),)
    # Counting the tokens of a long text takes a moment that other runs on this loop should not wait for.
    return await asyncio.to_thread(split, text, capacity.text, _tokens)


async def build_part_context(subject: Subject, part: Part, evidence: Evidence, capacity: WindowCapacity) -> PartContext:
    """The part with as much evidence as fits beside it; what shares most words with the part comes first."""
    context = PartContext(subject=subject, part=part, evidence=evidence, shown=evidence.found)
    limit = capacity.text_and_evidence
    if limit is None or sum(text_bound(passage_block(passage)) for passage in context.passages) <= limit:
        return context
    shown = await asyncio.to_thread(_that_fit, context, limit)
    return PartContext(subject=subject, part=part, evidence=evidence, shown=shown)


def _that_fit(context: PartContext, limit: int) -> tuple[Source, ...]:
    document, *found = context.passages
    left = limit - _tokens(document.text)
    shown: set[str] = set()
    for passage in _ranked(found, document.text):
        size = _tokens(passage_block(passage))
        if size <= left:
            shown.add(passage.source.id)
            left -= size
    return tuple(source for source in context.shown if source.id in shown)


def _ranked(found: Iterable[Passage], text: str) -> list[Passage]:
    """Research's own order, where the same number of words is shared."""
    words = set(_WORD.findall(text.casefold()))

    def shared(passage: Passage) -> int:
        return len(words & set(_WORD.findall(f"{passage.source.title} {passage.text}".casefold())))

    return sorted(found, key=shared, reverse=True)


def _tokens(text: str) -> int:
    return _prompt(escape_tags(text)) - _prompt("")


def _prompt(text: str) -> int:
    return count([{"role": "user", "content": text}])
