"""Long texts in parts. Pure."""

from dataclasses import dataclass

__all__ = ["Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """`text[start:end]`, the part with this number of so many."""

    number: int
    of: int
    start: int
    end: int

    @classmethod
    def whole(cls, text: str) -> "Part":
        return cls(1, 1, 0, len(text))
