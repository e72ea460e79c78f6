"""What one call sees of a run: a part of the text, and the evidence that fits beside it. Pure."""

from dataclasses import dataclass, field

from llm_common._text.chunking import Part
from llm_common.pipeline.schemas import Evidence, Source
from llm_common.pipeline.subject import Subject

__all__ = ["PartContext", "Passage"]


@dataclass(frozen=True, slots=True)
class Passage:
    """`whole[start:end]` of a source, which is what a model is shown."""

    source: Source
    whole: str = field(repr=False)
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.whole[self.start : self.end]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartContext:
    """`shown` are the sources of `evidence` that fit beside the part, by default all of them."""

    subject: Subject
    part: Part
    evidence: Evidence
    shown: tuple[Source, ...]

    @classmethod
    def whole(cls, subject: Subject, evidence: Evidence) -> "PartContext":
        """All of it."""
        return cls(subject=subject, part=Part.whole(subject.text), evidence=evidence, shown=evidence.found)

    @property
    def text(self) -> str:
        return self.subject.text[self.part.start : self.part.end]

    @property
    def document(self) -> Passage:
        source = Source(id=self.subject.spec.document, title=self.subject.id)
        return Passage(source, self.subject.text, self.part.start, self.part.end)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The document first, then what was found."""
        found = (Passage(source, source.text or "", 0, len(source.text or "")) for source in self.shown)
        return (self.document, *found)
