"""Every error that this package raises on purpose.

LLMCommonError
├── ConfigurationError          a key, a URL or a setting is missing or wrong; nothing was sent
├── InvalidInputError           an argument is not usable; nothing was sent and nothing changed
│   └── UnknownArgumentError    a call has no argument of that name
├── LLMError                    a model call did not give an answer
│   ├── BudgetExceededError     the worst case of the call does not fit a budget; nothing was sent
│   ├── ModelNotFoundError      nobody knows a model of that name
│   ├── AuthenticationError     the provider refused the key (401, 403)
│   ├── BadRequestError         the provider refused the request (400, 404, 413, 422)
│   │   ├── ContextWindowError  the prompt does not fit the model's window
│   │   └── ContentPolicyError  the provider's safety rules refused prompt or answer
│   ├── RateLimitError          too many requests now (429)
│   │   ├── QuotaExhaustedError the account has nothing left (402, z.ai 1113, ...): waiting does not help
│   │   └── LimitReachedError   a limit of your own lets nothing go before the call's deadline; nothing was sent
│   ├── ProviderError           the provider failed or is overloaded (5xx)
│   ├── ConnectionFailedError   no connection, or it broke
│   ├── DeadlineExceededError   no (complete) answer within the time allowed
│   ├── InvalidAnswerError      the answer cannot be read: not JSON, cut short, empty
│   │   ├── EmptyAnswerError    the model said nothing
│   │   └── StructuredOutputError  the answer never fitted the requested schema
│   ├── StreamInterruptedError  the stream broke after text was handed out
│   └── AllModelsFailed         every candidate of the fallback chain failed
├── SearchError                 a search did not give an answer
│   ├── SearchQuotaError        the search account has nothing left
│   └── InvalidQueryError       the search's arguments are not usable; nothing was sent
├── PipelineError               a pipeline run did not complete
│   ├── RunCancelledError       somebody asked it to stop
│   ├── RunFencedError          another worker owns the run now
│   └── RunInProgressError      the same run is being worked on elsewhere
└── DatabaseError               the database refused or failed
    ├── DatabaseUnavailableError  it cannot be reached
    └── MigrationError          the schema is missing, changed, or of another version
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from llm_common.usage import Attempt, Usage

__all__ = [
    "AllModelsFailed",
    "Attempt",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "ConfigurationError",
    "ConnectionFailedError",
    "ContentPolicyError",
    "ContextWindowError",
    "DatabaseError",
    "DatabaseUnavailableError",
    "DeadlineExceededError",
    "EmptyAnswerError",
    "InvalidAnswerError",
    "InvalidInputError",
    "InvalidQueryError",
    "LLMCommonError",
    "LLMError",
    "LimitReachedError",
    "MigrationError",
    "ModelNotFoundError",
    "PipelineError",
    "ProviderError",
    "QuotaExhaustedError",
    "RateLimitError",
    "RunCancelledError",
    "RunFencedError",
    "RunInProgressError",
    "SearchError",
    "SearchQuotaError",
    "StreamInterruptedError",
    "StructuredOutputError",
    "UnknownArgumentError",
]


class LLMCommonError(Exception):
    """The root: `except LLMCommonError` catches whatever this package raises on purpose."""


class ConfigurationError(LLMCommonError):
    """A key, a URL or a setting is missing or wrong. The message names it and says where to put it."""


class InvalidInputError(LLMCommonError, ValueError):
    """An argument is not usable. Nothing was sent and nothing was changed."""


class UnknownArgumentError(InvalidInputError, TypeError):
    """A call has no argument of that name. The message names the nearest one, or where the argument belongs."""


class LLMError(LLMCommonError):
    """A model call did not give an answer.

    Shapes: `provider` and `model` as resolved; `status` the HTTP status; `code` the provider's own code;
    `request_id` what the provider calls this request; `retry_after` seconds; `attempts` what was tried, in
    order; `cost_usd` what the call was charged in spite of its failure; `maybe_billed` whether the provider
    may bill the failed request, because it had begun to work on it; `usage` what it counted for a request that
    failed all the same (an empty answer, say), None where it did not tell.
    """

    #: Whether the same request may succeed a little later.
    retryable: bool = False
    #: Whether another model may succeed where this one failed.
    fallback: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        attempts: Sequence[Attempt] = (),
        cost_usd: Decimal = Decimal(0),
        maybe_billed: bool = False,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts = tuple(attempts)
        self.cost_usd = cost_usd
        self.maybe_billed = maybe_billed
        self.usage = usage


class BudgetExceededError(LLMError):
    """The worst case of a call does not fit into a budget, so nothing was sent.

    Raise the budget, lower `max_tokens`, choose a cheaper model, or wait until `resets_at`.
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str = "",
        limit_usd: Decimal = Decimal(0),
        spent_usd: Decimal = Decimal(0),
        reserved_usd: Decimal = Decimal(0),
        requested_usd: Decimal = Decimal(0),
        resets_at: datetime | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.budget = budget
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = reserved_usd
        self.requested_usd = requested_usd
        self.resets_at = resets_at


class ModelNotFoundError(LLMError):
    """Nobody knows a model of that name. `near_matches` are names that look like it."""

    fallback = True

    def __init__(self, message: str, *, near_matches: Sequence[str] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.near_matches = tuple(near_matches)


class AuthenticationError(LLMError):
    """The provider refused the key. Check that the key belongs to this provider and base URL."""


class BadRequestError(LLMError):
    """The provider refused the request as it is. Sending it again does not help."""


class ContextWindowError(BadRequestError):
    """The prompt (with the room for the answer) does not fit the model's window."""

    fallback = True


class ContentPolicyError(BadRequestError):
    """The provider's safety rules refused the prompt or the answer."""


class RateLimitError(LLMError):
    """Too many requests or tokens for now. `retry_after` says when, if the provider did."""

    retryable = True
    fallback = True


class QuotaExhaustedError(RateLimitError):
    """The account's balance or quota window is used up: waiting a moment does not help, another model may."""

    retryable = False


class LimitReachedError(RateLimitError):
    """A limit of `LLMClient(limits=...)` does not let the request go before the call's deadline; nothing was sent.

    `limit` says which (`zai/requests_per_minute`); `retry_after` in how many seconds it would, None where that hangs
    on when others end. The next model of a chain is asked; the provider's health is not in question.
    """

    retryable = False

    def __init__(self, message: str, *, limit: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.limit = limit


class ProviderError(LLMError):
    """The provider failed or is overloaded."""

    retryable = True
    fallback = True


class ConnectionFailedError(LLMError):
    """No connection to the provider, or it broke before the answer was complete."""

    retryable = True
    fallback = True


class DeadlineExceededError(LLMError, TimeoutError):
    """No complete answer within the time allowed."""

    retryable = True
    fallback = True


class InvalidAnswerError(LLMError):
    """The answer cannot be read. `raw_text` is what arrived (never part of the message)."""

    retryable = True
    fallback = True

    def __init__(self, message: str, *, raw_text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.raw_text = raw_text


class EmptyAnswerError(InvalidAnswerError):
    """The model answered with nothing."""


class StructuredOutputError(InvalidAnswerError):
    """No answer fitted the requested schema, also after asking again with the validation errors.

    `validation_errors` are those of the last answer; `raw_text` is that answer. Nothing is filled in by us.
    """

    retryable = False

    def __init__(self, message: str, *, validation_errors: Sequence[str] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.validation_errors = tuple(validation_errors)


class StreamInterruptedError(LLMError):
    """The stream broke after text was handed out, so no other model can take over unseen.

    `partial_text` is what had arrived; `cost_usd` is what it was charged.
    """

    def __init__(self, message: str, *, partial_text: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.partial_text = partial_text


class AllModelsFailed(LLMError):  # noqa: N818 (the name that hosts already import)
    """Every candidate failed. `attempts` has each of them, `errors` the last error of each model."""

    def __init__(self, message: str, *, errors: Mapping[str, LLMError] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.errors = dict(errors or {})


class SearchError(LLMCommonError):
    """A search did not give an answer. "No hits" is not an error: it is an empty list."""

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.retryable = retryable


class SearchQuotaError(SearchError):
    """The search account's balance or quota window is used up. Top it up, or add another provider."""


class InvalidQueryError(SearchError, ValueError):
    """The arguments of a search are not usable. Nothing was sent."""


class PipelineError(LLMCommonError):
    """A pipeline run did not complete. `run_id` finds it again: `llm-common runs show RUN_ID`."""

    def __init__(self, message: str, *, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunCancelledError(PipelineError):
    """Somebody asked the run to stop. What was finished is kept."""


class RunFencedError(PipelineError):
    """Another worker took the run over, so this one's result is not stored."""


class RunInProgressError(PipelineError):
    """The same run is being worked on elsewhere. Wait for it, or use another idempotency key."""


class DatabaseError(LLMCommonError):
    """The database refused or failed. `sqlstate` is PostgreSQL's five-character code, if there is one.

    `retryable`: it was away, busy or undid the transaction itself, so that the same may succeed a little later.
    """

    retryable: bool = False

    def __init__(self, message: str, *, sqlstate: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        if retryable is not None:
            self.retryable = retryable


class DatabaseUnavailableError(DatabaseError):
    """The database cannot be reached, or takes nothing now. Check the URL, and that the server runs."""

    retryable = True


class MigrationError(DatabaseError):
    """The schema is missing, was changed by hand, or is of another version. Run `llm-common migrate`."""
