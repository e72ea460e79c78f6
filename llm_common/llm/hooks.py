"""What a host hears of its calls: before one is paid for, when a request is repeated, and when the call is over."""

import copy
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_common.exceptions import LLMError
from llm_common.models import Completion, Embeddings

__all__ = ["CallEnd", "CallHooks", "CallRetry", "CallView", "Hooks", "told"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """A call as a hook sees it: what is asked, of whom, for whom. No key is in it, and the messages are copies.

    The texts of `embed` are one message of the user's each.
    """

    models: tuple[str, ...]
    messages: tuple[Mapping[str, Any], ...] = field(repr=False)
    step: str | None
    user_id: str | None
    run_id: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetry:
    """One failed request that another follows.

    `attempt` counts this model's requests from 1. `next_model` is who is asked next: the same after `wait` seconds, or
    another one.
    """

    call: CallView
    model: str
    attempt: int
    error: LLMError
    next_model: str
    wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """How a call ended: `completion` (or `embeddings`), or the `error` that its caller gets. Already settled.

    A cancellation is an error too.
    """

    call: CallView
    completion: Completion[Any] | None
    embeddings: Embeddings | None = None
    error: BaseException | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Functions, plain or async, that `LLMClient(hooks=...)` calls. They run inside the call, on its event loop.

    `before` hears of each call before money is set aside. What it raises goes to the caller, and nothing is sent: raise
    an `LLMCommonError` to veto. `on_retry` hears of each request that is repeated or goes to the next model,
    `after` of the end of each call that `before` let pass. What these two raise is logged and changes nothing: an
    answer that was paid for is handed out.
    """

    before: Callable[[CallView], Awaitable[object] | object] | None = None
    after: Callable[[CallEnd], Awaitable[object] | object] | None = None
    on_retry: Callable[[CallRetry], Awaitable[object] | object] | None = None


async def told(hook: Callable[..., object], *facts: object) -> None:
    """Call a listener. What it raises is logged with its traceback: nobody's answer may hang on a listener."""
    try:
        await _called(hook, *facts)
    except Exception:  # noqa: BLE001 (reported in full; what was paid for is handed out all the same)
        _log.exception("%s raised; the call goes on without it", getattr(hook, "__qualname__", type(hook).__name__))


async def _called(hook: Callable[..., object], *facts: object) -> None:
    result = hook(*facts)
    if inspect.isawaitable(result):
        await result


class CallHooks:
    """A client's hooks, bound to one call."""

    def __init__(self, hooks: Hooks, call: CallView) -> None:
        self._hooks = hooks
        # A hook that changes what it is shown changes nothing that is sent.
        self._call = copy.deepcopy(call)

    async def before(self) -> None:
        """Raises whatever the hook raises."""
        if self._hooks.before is not None:
            await _called(self._hooks.before, self._call)

    async def retrying(self, error: LLMError, *, model: str, attempt: int, next_model: str, wait: float) -> None:
        if self._hooks.on_retry is not None:
            retry = CallRetry(
                call=self._call, model=model, attempt=attempt, error=error, next_model=next_model, wait=wait
            )
            await told(self._hooks.on_retry, retry)

    async def after(
        self, seconds: float, *, answer: Completion[Any] | Embeddings | None, error: BaseException | None
    ) -> None:
        if self._hooks.after is not None:
            vectors = answer if isinstance(answer, Embeddings) else None
            completion = None if isinstance(answer, Embeddings) else answer
            end = CallEnd(call=self._call, completion=completion, embeddings=vectors, error=error, seconds=seconds)
            await told(self._hooks.after, end)
