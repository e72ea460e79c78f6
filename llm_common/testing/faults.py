"""What can go wrong with a provider, by name: `provider.script(Fault.rate_limit(retry_after=2))`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from llm_common.exceptions import InvalidInputError

__all__ = ["ANSWER_FAULTS", "ZAI_CODES", "Fault"]

#: z.ai's business codes with the HTTP status that each arrives with, and its message.
#: Source: https://docs.z.ai/api-reference/api-code
ZAI_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "1000": (401, "Authentication Failed"),
    "1113": (429, "Insufficient balance or no resource package. Please recharge."),
    "1211": (400, "Unknown Model, please check the model code."),
    "1214": (400, "The parameter is incorrect. Please check the documentation."),
    "1261": (400, "Prompt exceeds max length"),
    "1301": (400, "System detected potentially unsafe or sensitive content in input or generation."),
    "1302": (429, "High concurrency usage of this API, please reduce concurrency or contact customer service."),
    "1303": (429, "High frequency usage of this API, please reduce frequency or contact customer service."),
    "1304": (429, "Daily call limit for this API reached."),
    "1305": (429, "The API has triggered a rate limit."),
    "1308": (429, "Usage limit reached for 5 hour. Your limit will reset at 2026-11-21 12:00:00"),
    "1310": (429, "Weekly/Monthly Limit Exhausted. Your limit will reset at 2026-12-01 00:00:00"),
}

#: The faults that change what the model says; the others change how it is delivered.
ANSWER_FAULTS: Final = frozenset(
    {"empty_choices", "empty_content", "wrong_schema", "code_fenced", "content_filter_finish"}
)

ServerStatus = Literal[500, 502, 503, 529]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail. Make it with a named constructor; `delayed(seconds)` lets it wait before it acts.

    Errors come in the shape, and with the true status, of the provider that is asked. `after` counts content deltas of
    a stream (bytes for `reset_after_bytes`); without a stream, faults in mid-answer strike after half of the body.
    """

    name: str
    delay: float = 0.0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: str | None = None
    after: int = 0
    seconds_per_chunk: float = 0.0
    location: str | None = None

    def delayed(self, seconds: float) -> "Fault":
        """The same fault, `seconds` after the request arrived."""
        return replace(self, delay=seconds)

    @classmethod
    def rate_limit(cls, retry_after: float | str | None = None, message: str | None = None) -> "Fault":
        """429. `retry_after` goes into the header: seconds, or an HTTP date as text."""
        header = None if retry_after is None else str(retry_after)
        return cls(name="rate_limit", retry_after=header, message=message)

    @classmethod
    def server_error(cls, status: ServerStatus = 500, message: str | None = None) -> "Fault":
        """The provider failed (500, 502, 503) or is overloaded (529)."""
        return cls(name="server_error", status=status, message=message)

    @classmethod
    def unauthorized(cls) -> "Fault":
        """401, as for a wrong key."""
        return cls(name="unauthorized")

    @classmethod
    def payment_required(cls) -> "Fault":
        """No money left: 402 at OpenRouter and Anthropic, 429 `insufficient_quota` at OpenAI, 429 and 1113 at z.ai."""
        return cls(name="payment_required")

    @classmethod
    def not_found(cls) -> "Fault":
        """The model is unknown: 404 at OpenAI and Anthropic, 400 at OpenRouter and z.ai (1211)."""
        return cls(name="not_found")

    @classmethod
    def context_window(cls) -> "Fault":
        """400: the prompt is longer than the model's window."""
        return cls(name="context_window")

    @classmethod
    def content_filter(cls) -> "Fault":
        """The safety rules refuse the prompt: 400, at OpenRouter 403."""
        return cls(name="content_filter")

    @classmethod
    def content_filter_finish(cls) -> "Fault":
        """200, but the answer stops short with `finish_reason: content_filter` (`refusal`, `sensitive`)."""
        return cls(name="content_filter_finish")

    @classmethod
    def zai_error(cls, code: str | int, status: int | None = None, message: str | None = None) -> "Fault":
        """One of z.ai's codes, with its true HTTP status unless `status` says otherwise."""
        if status is None and str(code) not in ZAI_CODES:
            known = ", ".join(sorted(ZAI_CODES))
            raise InvalidInputError(f"z.ai code {code} has no known status; pass status=, or use one of {known}")
        return cls(name="zai_error", code=str(code), status=status, message=message)

    @classmethod
    def redirect(cls, to: str) -> "Fault":
        """307 to another URL, where a client must not carry its key."""
        return cls(name="redirect", location=to)

    @classmethod
    def error_in_200(cls, status: int = 502, message: str | None = None) -> "Fault":
        """200 with an error in the body (in a stream: as its first event). `status` is the code inside."""
        return cls(name="error_in_200", status=status, message=message)

    @classmethod
    def error_mid_stream(cls, after_chunks: int = 1, message: str | None = None) -> "Fault":
        """The stream breaks off with an error event, as it does when the model behind it dies."""
        return cls(name="error_mid_stream", after=after_chunks, status=502, message=message)

    @classmethod
    def reset_before_bytes(cls) -> "Fault":
        """The connection is reset before anything is answered."""
        return cls(name="reset_before_bytes")

    @classmethod
    def reset_after_bytes(cls, n: int) -> "Fault":
        """The head and the first `n` bytes of the body arrive, then the connection is reset."""
        return cls(name="reset_after_bytes", after=n)

    @classmethod
    def stall(cls) -> "Fault":
        """The request is accepted and never answered."""
        return cls(name="stall")

    @classmethod
    def stall_mid_stream(cls, after_chunks: int = 1) -> "Fault":
        """The answer begins, then nothing more comes."""
        return cls(name="stall_mid_stream", after=after_chunks)

    @classmethod
    def slow_drip(cls, seconds_per_chunk: float) -> "Fault":
        """The whole answer, one piece at a time."""
        return cls(name="slow_drip", seconds_per_chunk=seconds_per_chunk)

    @classmethod
    def cut_stream(cls, after_chunks: int = 1) -> "Fault":
        """The connection closes in mid-stream: no last chunk, no `[DONE]`."""
        return cls(name="cut_stream", after=after_chunks)

    @classmethod
    def end_stream_early(cls, after_chunks: int = 1) -> "Fault":
        """The stream ends as HTTP demands, but without a finish reason and without `[DONE]`."""
        return cls(name="end_stream_early", after=after_chunks)

    @classmethod
    def truncated_json(cls) -> "Fault":
        """A complete HTTP answer whose JSON stops in the middle (in a stream: that of the last event)."""
        return cls(name="truncated_json")

    @classmethod
    def not_json(cls) -> "Fault":
        """200, announced as JSON, but plain words."""
        return cls(name="not_json")

    @classmethod
    def wrong_content_type(cls) -> "Fault":
        """200 with a gateway's HTML page."""
        return cls(name="wrong_content_type")

    @classmethod
    def empty_choices(cls) -> "Fault":
        """200 with no choices (Anthropic: no content blocks; search: no results)."""
        return cls(name="empty_choices")

    @classmethod
    def empty_content(cls) -> "Fault":
        """200 with a choice that says nothing (search: without the list of results)."""
        return cls(name="empty_content")

    @classmethod
    def wrong_schema(cls) -> "Fault":
        """Well-formed JSON that does not fit the requested schema (search: results that are no list)."""
        return cls(name="wrong_schema")

    @classmethod
    def code_fenced(cls) -> "Fault":
        """The right JSON, in a Markdown code fence with a word before it."""
        return cls(name="code_fenced")
