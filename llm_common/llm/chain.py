"""Who is asked next: the candidates of one call in their order, less those that what happened so far rules out."""

from collections.abc import Sequence

from llm_common.exceptions import ContentPolicyError, ContextWindowError, LLMError
from llm_common.llm.breaker import Breakers
from llm_common.llm.candidates import Candidate

__all__ = ["Chain", "may_follow"]


def may_follow(
    error: LLMError, refused: Candidate, waiting: Sequence[Candidate], *, on_content_policy: bool
) -> list[Candidate]:
    """Those of `waiting` that may succeed where `refused` failed. Pure.

    Nobody follows on an error of the caller's own (key, budget, request). What was too long for one window goes to a
    larger one, or to one that nobody knows. Another model's safety rules are tried if `on_content_policy` says so.
    """
    if isinstance(error, ContentPolicyError):
        return list(waiting) if on_content_policy else []
    if not error.fallback:
        return []
    if isinstance(error, ContextWindowError) and refused.window is not None:
        return [candidate for candidate in waiting if candidate.window is None or candidate.window > refused.window]
    return list(waiting)


class Chain:
    """The candidates of one call that were not asked yet, and the last error of each that was."""

    def __init__(self, candidates: Sequence[Candidate], breakers: Breakers, *, on_content_policy: bool) -> None:
        self._waiting = list(candidates)
        self._breakers = breakers
        self._on_content_policy = on_content_policy
        self.errors: dict[str, LLMError] = {}

    @property
    def has_more(self) -> bool:
        return bool(self._waiting)

    def next(self) -> Candidate | None:
        """The next whose circuit lets a request through; the last one whatever its circuit says."""
        while self._waiting:
            candidate = self._waiting.pop(0)
            if not self._waiting or self._breakers.admit(candidate.circuit):
                return candidate
        return None

    def failed(self, candidate: Candidate, error: LLMError) -> None:
        """Write down how a candidate failed, and let go of those that would fail alike."""
        self.errors[candidate.route.asked] = error
        self._waiting = may_follow(error, candidate, self._waiting, on_content_policy=self._on_content_policy)
