"""Who is asked next: the candidates of one call in their order, less those that what happened so far rules out."""

from collections.abc import Sequence

from llm_common.exceptions import ContentPolicyError, ContextWindowError, LLMError
from llm_common.llm.breaker import Breakers
from llm_common.llm.candidates import Candidate

__all__ = ["FallbackChain", "may_follow"]


def _is_avoidable(error: LLMError, on_content_policy: bool) -> bool:  # noqa: FBT001
    """Whether it is of a kind that another model may avoid."""
    return error.fallback or (on_content_policy and isinstance(error, ContentPolicyError))


def may_follow(
    error: LLMError, refused: Candidate, waiting: Sequence[Candidate], *, on_content_policy: bool
) -> list[Candidate]:
    """Those of `waiting` that may succeed where `refused` failed. Pure.

    Nobody follows on an error of the caller's own (key, budget, request). What was too long for one window goes to a
    larger one, or to one that nobody knows. Another model's safety rules are tried if `on_content_policy` says so.
    """
    if not _is_avoidable(error, on_content_policy):
        return []
    if isinstance(error, ContextWindowError) and refused.window is not None:
        return [candidate for candidate in waiting if candidate.window is None or candidate.window > refused.window]
    return list(waiting)


class FallbackChain:
    """The candidates of one call that were not asked yet, and the last error of each that was."""

    def __init__(self, candidates: Sequence[Candidate], breakers: Breakers, *, on_content_policy: bool) -> None:
        self._waiting = list(candidates)
        self._breakers = breakers
        self._on_content_policy = on_content_policy
        self.errors: dict[str, LLMError] = {}
        #: Whether somebody failed in a way that no other can avoid.
        self.is_over = False

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

    def spare(self) -> Candidate | None:
        """One more to ask beside the one that is being asked: the next whose circuit lets a request through."""
        for candidate in self._waiting:
            if self._breakers.admit(candidate.circuit):
                self._waiting.remove(candidate)
                return candidate
        return None

    def put_back(self, candidate: Candidate) -> None:
        """It was not asked after all, and is the next again."""
        self._waiting.insert(0, candidate)

    def failed(self, candidate: Candidate, error: LLMError) -> None:
        """Write down how a candidate failed, and let go of those that would fail alike."""
        self.errors[candidate.route.asked] = error
        self.is_over = self.is_over or not _is_avoidable(error, self._on_content_policy)
        self._waiting = may_follow(error, candidate, self._waiting, on_content_policy=self._on_content_policy)
