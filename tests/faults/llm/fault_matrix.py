"""What comes of each fault, for each provider, over each wire, for each way of asking. `docs/faults.md` prints it.

A row says what `complete` gets; structured calls and streams get the same unless the row says otherwise, and so does
every provider over every wire unless the row names it under `but`. Each cell is run by `test_fault_matrix.py`.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal

from llm_common.exceptions import (
    AuthenticationError,
    ConnectionFailedError,
    ContentPolicyError,
    ContextWindowError,
    DeadlineExceededError,
    EmptyAnswerError,
    InvalidAnswerError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    StructuredOutputError,
)
from llm_common.llm.wire import WireName
from llm_common.testing import Fault

Way = Literal["complete", "structured", "stream"]
#: `counted`: the usage that the provider reported times its price, or the provider's own figure. `bound`: a part of it
#: is the most that a request can cost, because nobody said what it did cost.
Cost = Literal["nothing", "counted", "bound"]

ATTEMPTS: Final = 3
PATIENT, SHORT = 30.0, 0.4
LATER_THAN_ALL: Final = 45


@dataclass(frozen=True)
class Endpoint:
    wire: WireName
    provider: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.wire} {self.provider}"


ENDPOINTS: Final = (
    Endpoint("direct", "openai", "gpt-4o"),
    Endpoint("direct", "openrouter", "z-ai/glm-5.3"),
    Endpoint("direct", "zai", "glm-5.3"),
    Endpoint("litellm", "openai", "gpt-4o"),
    Endpoint("litellm", "openrouter", "z-ai/glm-5.3"),
    Endpoint("litellm", "zai", "glm-5.3"),
    Endpoint("litellm", "anthropic", "claude-sonnet-5-5"),
)
ZAI: Final = tuple(endpoint.name for endpoint in ENDPOINTS if endpoint.provider == "zai")


@dataclass(frozen=True)
class Outcome:
    """How a call ends. `requests` is what the provider saw; `row` the status of the ledger's row, None for no row."""

    result: str
    requests: int
    row: str | None
    cost: Cost


@dataclass(frozen=True)
class Expected:
    """The outcome where the fault strikes once, and where it strikes each time."""

    once: Outcome
    always: Outcome


def the_same(outcome: Outcome) -> Expected:
    return Expected(outcome, outcome)


def retried(error: type[LLMError], cost: Cost) -> Expected:
    """Asked again, up to three requests. What a failed request costs stays on the bill of the answer that follows."""
    answer = Outcome("an answer", 2, "ok", "bound" if cost == "bound" else "counted")
    return Expected(answer, Outcome(error.__name__, ATTEMPTS, None if cost == "nothing" else "failed", cost))


def final(error: type[LLMError]) -> Expected:
    """Waiting does not help, and nothing was done that could be billed."""
    return the_same(Outcome(error.__name__, 1, None, "nothing"))


def interrupted(cause: type[LLMError]) -> Expected:
    """Text was handed out already, so nobody is asked again. No usage came, so what was read is estimated."""
    return the_same(Outcome(f"StreamInterruptedError ({cause.__name__})", 1, "cut", "bound"))


ANSWERED = the_same(Outcome("an answer", 1, "ok", "counted"))
LATE = the_same(Outcome(DeadlineExceededError.__name__, 1, "failed", "bound"))
#: Another kind of asking again: the model is shown what was wrong with its answer.
REASKED = retried(StructuredOutputError, "counted")


@dataclass(frozen=True)
class But:
    """Where the outcome is another one, and why."""

    way: Way
    where: tuple[str, ...]
    expected: Expected
    why: str


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    fault: Fault
    complete: Expected
    structured: Expected | None = None
    stream: Expected | None = None
    but: tuple[But, ...] = ()
    deadline: float = PATIENT

    def expected(self, way: Way, endpoint: Endpoint) -> Expected:
        for exception in self.but:
            if exception.way == way and endpoint.name in exception.where:
                return exception.expected
        own = {"complete": None, "structured": self.structured, "stream": self.stream}[way]
        return own or self.complete

    def slower(self, times: float) -> "Row":
        """The same row for a machine that needs longer."""
        fault = replace(self.fault, seconds_per_chunk=self.fault.seconds_per_chunk * times)
        return replace(self, fault=fault, deadline=self.deadline * times)


def _refusal(name: str, fault: Fault, expected: Expected) -> Row:
    return Row(name=name, fault=fault, complete=expected)


ROWS: Final = (
    _refusal("429", Fault.rate_limit(), retried(RateLimitError, "nothing")),
    _refusal("429, Retry-After within the deadline", Fault.rate_limit(0.01), retried(RateLimitError, "nothing")),
    _refusal("429, Retry-After beyond the deadline", Fault.rate_limit(LATER_THAN_ALL), final(RateLimitError)),
    _refusal("500", Fault.server_error(500), retried(ProviderError, "nothing")),
    _refusal("503", Fault.server_error(503), retried(ProviderError, "nothing")),
    _refusal("401", Fault.unauthorized(), final(AuthenticationError)),
    _refusal("402, or the provider's word for it", Fault.payment_required(), final(QuotaExhaustedError)),
    _refusal("404, or the provider's word for it", Fault.not_found(), final(ModelNotFoundError)),
    _refusal("context window", Fault.context_window(), final(ContextWindowError)),
    _refusal("content filter refuses the prompt", Fault.content_filter(), final(ContentPolicyError)),
    Row(
        name="content filter stops the answer",
        fault=Fault.content_filter_finish(),
        complete=ANSWERED,  # the part that came, with its finish reason
        # Asked again it would be stopped again.
        structured=the_same(Outcome(ContentPolicyError.__name__, 1, "failed", "counted")),
    ),
    Row(
        name="reset before any byte",
        fault=Fault.reset_before_bytes(),
        complete=retried(ConnectionFailedError, "bound"),
    ),
    Row(
        name="reset after 20 bytes",
        fault=Fault.reset_after_bytes(20),
        complete=retried(ConnectionFailedError, "bound"),
    ),
    Row(name="stall", fault=Fault.stall(), deadline=SHORT, complete=LATE),
    Row(
        name="stall in mid-answer",
        fault=Fault.stall_mid_stream(),
        deadline=SHORT,
        complete=LATE,
        stream=interrupted(DeadlineExceededError),
    ),
    Row(name="slow drip, done in time", fault=Fault.slow_drip(0.002), complete=ANSWERED),
    Row(
        name="slow drip beyond the deadline",
        fault=Fault.slow_drip(SHORT / 4),
        deadline=SHORT,
        complete=LATE,
        stream=interrupted(DeadlineExceededError),
        but=(But("stream", ZAI, LATE, "its models think first, which is no text yet"),),
    ),
    Row(
        name="truncated JSON",
        fault=Fault.truncated_json(),
        complete=retried(InvalidAnswerError, "bound"),
        stream=interrupted(InvalidAnswerError),
    ),
    Row(
        name="words instead of JSON",
        fault=Fault.not_json(),
        complete=retried(InvalidAnswerError, "bound"),
    ),
    Row(
        name="wrong content type (a web page)",
        fault=Fault.wrong_content_type(),
        complete=retried(InvalidAnswerError, "bound"),
    ),
    Row(
        name="cut before its first piece",
        fault=Fault.cut_stream(after_chunks=0),
        complete=retried(ConnectionFailedError, "bound"),
    ),
    Row(
        name="cut after its first piece",
        fault=Fault.cut_stream(),
        complete=retried(ConnectionFailedError, "bound"),
        stream=interrupted(ConnectionFailedError),
    ),
    Row(
        name="ended in mid-answer as HTTP demands",
        fault=Fault.end_stream_early(),
        complete=retried(InvalidAnswerError, "bound"),
        stream=interrupted(ConnectionFailedError),
    ),
    Row(
        name="empty choices",
        fault=Fault.empty_choices(),
        complete=retried(EmptyAnswerError, "counted"),
        but=(But("stream", ZAI, retried(EmptyAnswerError, "bound"), "its usage comes with its last choice"),),
    ),
    Row(name="empty answer", fault=Fault.empty_content(), complete=retried(EmptyAnswerError, "counted")),
    Row(name="200 with an error body", fault=Fault.error_in_200(), complete=retried(ProviderError, "bound")),
    Row(
        name="error in mid-answer",
        fault=Fault.error_mid_stream(),
        complete=retried(ProviderError, "bound"),
        stream=interrupted(ProviderError),
    ),
    Row(name="invalid schema", fault=Fault.wrong_schema(), complete=ANSWERED, structured=REASKED),
)


@dataclass(frozen=True)
class Cell:
    row: Row
    way: Way
    endpoint: Endpoint

    @property
    def expected(self) -> Expected:
        return self.row.expected(self.way, self.endpoint)

    def __str__(self) -> str:
        return f"{self.row.name}, {self.way}, {self.endpoint.name}"


WAYS: Final[tuple[Way, ...]] = ("complete", "structured", "stream")
CELLS: Final = tuple(Cell(row, way, endpoint) for row, way, endpoint in product(ROWS, WAYS, ENDPOINTS))
