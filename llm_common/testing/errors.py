"""How each provider words an error.

- OpenAI: `{"error": {message, type, param, code}}`, https://platform.openai.com/docs/guides/error-codes
- OpenRouter: `{"error": {code: int, message, metadata}}`, https://openrouter.ai/docs/api/reference/errors-and-debugging
- Anthropic: `{"type": "error", "error": {type, message}, "request_id"}`, https://docs.anthropic.com/en/api/errors
- z.ai: `{"error": {code: "1302", message}}`, https://docs.z.ai/api-reference/api-code
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from llm_common.testing.faults import ZAI_CODES, Fault
from llm_common.testing.wire import Json, ProviderName

__all__ = ["ErrorAnswer", "Problem", "ProblemKind", "Refusal", "error_answer", "problem_of"]

ProblemKind = Literal[
    "invalid_request",
    "no_key",
    "wrong_key",
    "no_money",
    "unknown_path",
    "wrong_method",
    "unknown_model",
    "context_window",
    "content_filter",
    "rate_limit",
    "server",
    "zai",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, in nobody's words yet. `subject` is the model, path or parameter that it is about."""

    kind: ProblemKind
    message: str | None = None
    subject: str = ""
    status: int | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """A problem in one provider's words."""

    status: int
    body: Json
    headers: Mapping[str, str]


class Refusal(Exception):  # noqa: N818 (it says what the server does, and never leaves it)
    """The server does not accept a request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.kind, problem.message)
        self.problem = problem


#: kind → (status, type, code, message)
_OPENAI: Final[Mapping[str, tuple[int, str, str | None, str]]] = {
    "invalid_request": (400, "invalid_request_error", None, "Invalid request."),
    "no_key": (
        401,
        "invalid_request_error",
        None,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
        "auth (i.e. Authorization: Bearer YOUR_KEY).",
    ),
    "wrong_key": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "no_money": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "unknown_path": (404, "invalid_request_error", None, "Invalid URL ({subject})"),
    "wrong_method": (405, "invalid_request_error", "method_not_supported", "Not allowed to {subject}."),
    "unknown_model": (
        404,
        "invalid_request_error",
        "model_not_found",
        "The model `{subject}` does not exist or you do not have access to it.",
    ),
    "context_window": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 213402 tokens. "
        "Please reduce the length of the messages.",
    ),
    "content_filter": (
        400,
        "invalid_request_error",
        "invalid_prompt",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with "
        "a different prompt.",
    ),
    "rate_limit": (
        429,
        "requests",
        "rate_limit_exceeded",
        "Rate limit reached for requests. Limit: 500 / min. Please try again soon.",
    ),
    "server": (500, "server_error", None, "The server had an error while processing your request. Sorry about that!"),
}

#: kind → (status, message)
_OPENROUTER: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (400, "Invalid request."),
    "no_key": (401, "No auth credentials found"),
    "wrong_key": (401, "User not found."),
    "no_money": (
        402,
        "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
    ),
    "unknown_path": (404, "Not Found"),
    "wrong_method": (405, "Method Not Allowed"),
    "unknown_model": (400, "{subject} is not a valid model ID"),
    "context_window": (
        400,
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 213402 tokens "
        "(212378 of text input, 1024 in the output). Please reduce the length of either one, or use the "
        '"middle-out" transform to compress your prompt automatically.',
    ),
    "content_filter": (403, 'The model requires moderation. Your input was flagged for "violence"'),
    "rate_limit": (429, "Provider returned error"),
    "server": (500, "Internal Server Error"),
}

#: kind → (status, type, message)
_ANTHROPIC: Final[Mapping[str, tuple[int, str, str]]] = {
    "invalid_request": (400, "invalid_request_error", "Invalid request."),
    "no_key": (401, "authentication_error", "x-api-key header is required"),
    "wrong_key": (401, "authentication_error", "invalid x-api-key"),
    "no_money": (402, "billing_error", "There is an issue with your billing or payment information."),
    "unknown_path": (404, "not_found_error", "Not Found"),
    "wrong_method": (405, "invalid_request_error", "Method Not Allowed"),
    "unknown_model": (404, "not_found_error", "model: {subject}"),
    "context_window": (400, "invalid_request_error", "prompt is too long: 213402 tokens > 200000 maximum"),
    "content_filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "rate_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
    ),
    "server": (500, "api_error", "Internal server error"),
}

#: kind → (status, code, message)
_ZAI: Final[Mapping[str, tuple[int, str, str]]] = {
    "invalid_request": (400, "1214", ZAI_CODES["1214"][1]),
    "no_key": (401, "1001", "Authentication parameter not received in Header, unable to authenticate"),
    "wrong_key": (401, "1000", ZAI_CODES["1000"][1]),
    "no_money": (429, "1113", ZAI_CODES["1113"][1]),
    "unknown_model": (400, "1211", ZAI_CODES["1211"][1]),
    "context_window": (400, "1261", ZAI_CODES["1261"][1]),
    "content_filter": (400, "1301", ZAI_CODES["1301"][1]),
    "rate_limit": (429, "1302", ZAI_CODES["1302"][1]),
    "server": (500, "1234", "Network error, error id: 20261121120000, please contact customer service"),
}


def _openai(problem: Problem, _request_id: str) -> tuple[int, Json]:
    status, kind, code, message = _OPENAI[problem.kind]
    if problem.status in {503, 529}:
        message = "The engine is currently overloaded, please try again later"
    error = {
        "message": problem.message or message.format(subject=problem.subject),
        "type": kind,
        "param": problem.subject or None if problem.kind == "invalid_request" else None,
        "code": problem.code or code,
    }
    return problem.status or status, {"error": error}


def _openrouter(problem: Problem, _request_id: str) -> tuple[int, Json]:
    status, message = _OPENROUTER[problem.kind]
    status = problem.status or status
    error: Json = {"message": problem.message or message.format(subject=problem.subject), "code": status}
    if problem.kind == "rate_limit":
        raw = f"{problem.subject or 'the model'} is temporarily rate-limited upstream. Please retry shortly."
        error["metadata"] = {"raw": raw, "provider_name": "Upstream"}
    elif problem.kind == "content_filter":
        error["metadata"] = {"reasons": ["violence"], "flagged_input": "...", "provider_name": "Upstream"}
    elif problem.kind == "server" and status != _OPENROUTER["server"][0]:
        error["message"] = problem.message or "Provider returned error"
        error["metadata"] = {"raw": "upstream error", "provider_name": "Upstream"}
    elif problem.code:
        error["metadata"] = {"provider_name": problem.code}
    return status, {"error": error}


def _anthropic(problem: Problem, request_id: str) -> tuple[int, Json]:
    status, kind, message = _ANTHROPIC[problem.kind]
    if problem.status in {503, 529}:
        kind, message = "overloaded_error", "Overloaded"
    error = {"type": kind, "message": problem.message or message.format(subject=problem.subject)}
    return problem.status or status, {"type": "error", "error": error, "request_id": request_id}


def _zai(problem: Problem, _request_id: str) -> tuple[int, Json]:
    if problem.kind in {"unknown_path", "wrong_method"}:
        # z.ai's gateway answers these itself, with a text where its API has an object.
        status, words = (404, "Not Found") if problem.kind == "unknown_path" else (405, "Method Not Allowed")
        path = problem.subject.partition(" ")[2].replace("/api/paas", "").replace("/api/coding/paas", "")
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return status, {"timestamp": now, "status": status, "error": words, "path": path}
    status, code, message = _ZAI[problem.kind]
    return problem.status or status, {"error": {"code": problem.code or code, "message": problem.message or message}}


def _business_code(problem: Problem, _request_id: str) -> tuple[int, Json]:
    return problem.status or 500, {"error": {"code": problem.code, "message": problem.message}}


_WORDINGS: Final[Mapping[ProviderName, Callable[[Problem, str], tuple[int, Json]]]] = {
    "openai": _openai,
    "openrouter": _openrouter,
    "anthropic": _anthropic,
    "zai": _zai,
}


def error_answer(provider: ProviderName, problem: Problem, request_id: str) -> ErrorAnswer:
    """`problem` as `provider` puts it."""
    wording = _business_code if problem.kind == "zai" else _WORDINGS[provider]
    status, body = wording(problem, request_id)
    return ErrorAnswer(status=status, body=body, headers=problem.headers)


def problem_of(fault: Fault, model: str) -> Problem | None:
    """The problem that an error fault stands for; None for a fault that is no error answer."""
    headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
    if fault.name == "zai_error":
        status, message = ZAI_CODES.get(fault.code or "", (500, "Internal error"))
        return Problem(kind="zai", code=fault.code, status=fault.status or status, message=fault.message or message)
    kind = _FAULT_PROBLEMS.get(fault.name)
    if kind is None:
        return None
    return Problem(kind=kind, subject=model, status=fault.status, message=fault.message, headers=headers)


_FAULT_PROBLEMS: Final[Mapping[str, ProblemKind]] = {
    "rate_limit": "rate_limit",
    "server_error": "server",
    "unauthorized": "wrong_key",
    "payment_required": "no_money",
    "not_found": "unknown_model",
    "context_window": "context_window",
    "content_filter": "content_filter",
}
