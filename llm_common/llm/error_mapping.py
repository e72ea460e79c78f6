"""The one door from what providers report to our typed errors. Pure.

Sources: OpenAI "Error codes", OpenRouter "Errors and debugging", z.ai "Errors", Anthropic "Errors". Each condition
has a recorded fixture in `tests/unit/llm/fixtures/errors`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from llm_common._text.redaction import presentable
from llm_common._text.retry_after import retry_after
from llm_common.exceptions import (
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextWindowError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
)
from llm_common.llm.error_parsing import Condition, Json, condition_of, inner_headers, json_in, request_id_in

__all__ = ["ADVICE", "classify"]

_ZAI_AUTHENTICATION = ("1000", "1001", "1002", "1003", "1004", "1110", "1111", "1112", "1120", "1220")
#: Codes that mean one thing whatever the HTTP status, by provider. z.ai reports an empty balance as HTTP 429.
_CODES: Mapping[str, Mapping[str, type[LLMError]]] = {
    "zai": {
        **dict.fromkeys(_ZAI_AUTHENTICATION, AuthenticationError),
        **dict.fromkeys(("1113", "1304", "1308", "1309", "1310"), QuotaExhaustedError),
        **dict.fromkeys(("1302", "1303", "1305"), RateLimitError),
        **dict.fromkeys(("1211", "1311"), ModelNotFoundError),
        **dict.fromkeys(("1210", "1212", "1213", "1214", "1215"), BadRequestError),
        **dict.fromkeys(("1230", "1234"), ProviderError),
        "1261": ContextWindowError,
        **dict.fromkeys(("1300", "1301"), ContentPolicyError),
    },
}
#: The same for the codes and types that OpenAI-compatible servers and Anthropic share.
_COMMON_CODES: Mapping[str, type[LLMError]] = {
    "context_length_exceeded": ContextWindowError,
    "exceed_context_size_error": ContextWindowError,
    "content_filter": ContentPolicyError,
    "content_policy_violation": ContentPolicyError,
    "data_inspection_failed": ContentPolicyError,
    "model_not_found": ModelNotFoundError,
    "insufficient_quota": QuotaExhaustedError,
    "billing_hard_limit_reached": QuotaExhaustedError,
    "billing_not_active": QuotaExhaustedError,
    "billing_error": QuotaExhaustedError,
    "invalid_api_key": AuthenticationError,
}
#: Conditions that providers tell apart by wording only: (HTTP statuses, wording, error), first match wins.
_WORDINGS: tuple[tuple[frozenset[int], re.Pattern[str], type[LLMError]], ...] = tuple(
    (frozenset(statuses), re.compile(wording, re.IGNORECASE), error)
    for statuses, wording, error in (
        (
            (400, 413, 422),
            r"maximum context length|context (?:length|window|limit|size)|prompt is too long|prompt too long"
            r"|input is too long|input length .{0,40}exceed|exceeds the maximum number of (?:input )?tokens"
            r"|reduce the length of the (?:messages|prompt|input)",
            ContextWindowError,
        ),
        (
            (400, 402, 403, 429),
            r"credit balance|insufficient (?:credit|balance|fund)|(?:more|out of) credits|key limit exceeded"
            r"|request too large for",  # OpenAI: one request above the whole per-minute allowance
            QuotaExhaustedError,
        ),
        (
            (400, 403, 422),
            r"content[ _](?:policy|filter|management)|content filtering|safety system|moderation|\bflagged\b"
            r"|usage polic|data may contain inappropriate",
            ContentPolicyError,
        ),
        (
            (400, 404),
            r"not a valid model|unknown model|no endpoints found|^model: |"
            r"model\b.{0,100}(?:does not exist|do not exist|not found|not exist)|requested model is not supported",
            ModelNotFoundError,
        ),
    )
)
#: The provider may have worked for us before these: gateways gave up waiting for an answer, not for a connection.
_MAYBE_BILLED_STATUSES = frozenset({408, 504, 520, 524})
#: What to do about each kind.
ADVICE: Mapping[type[LLMError], str] = {
    AuthenticationError: "Check that the key belongs to this provider and base URL.",
    BadRequestError: "Change the request; sending it again does not help.",
    ContextWindowError: "Shorten the prompt, lower max_tokens, or use a model with a larger window.",
    ContentPolicyError: "Change the prompt, or use a model with other safety rules.",
    ModelNotFoundError: "Check the model's name, and that the key may use it.",
    QuotaExhaustedError: "Top up the account or raise its limits, or use another provider.",
    RateLimitError: "Wait and try again, or use another model.",
    ProviderError: "Try again later, or use another model.",
}


def classify(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | str | Json,
    *,
    model: str | None = None,
    api_key: str | None = None,
    sent: str = "",
    now: datetime | None = None,
) -> LLMError:
    """The typed error for a failed response: an HTTP error, or a 200 (or a stream's event) with an error inside.

    `status` is the HTTP status as received, `headers` in any case, `body` as bytes, text or parsed. `sent` is the
    prompt's text, so that an echo of it is not shown. `now` is for Retry-After dates. Returns the error.
    """
    payload = body if isinstance(body, Mapping) else json_in(body)
    lower = {name.lower(): value for name, value in headers.items()}
    condition = condition_of(status, payload, body)
    error = _class_of(provider, condition)
    shown = presentable(condition.message, secrets=(api_key or "",), sent=sent)
    code = condition.codes[0] if condition.codes else None
    number = f"HTTP {status}" + (f", code {code}" if code and code != str(status) else "")
    return error(
        _sentence(provider, model, number, shown, ADVICE[error]),
        provider=provider,
        model=model,
        status=status,
        code=code,
        request_id=request_id_in(lower, payload),
        retry_after=retry_after(lower | inner_headers(payload), now=now or datetime.now(UTC)),
        # Headers of a 200 go out when the model begins to work, so an error after them may have its price.
        maybe_billed=status < 300 or condition.status in _MAYBE_BILLED_STATUSES,  # noqa: PLR2004 (HTTP success)
    )


def _class_of(provider: str, condition: Condition) -> type[LLMError]:
    own = _CODES.get(provider, {})
    for code in condition.codes:
        if error := own.get(code) or _COMMON_CODES.get(code):
            return error
    if condition.moderated:
        return ContentPolicyError
    for statuses, wording, error in _WORDINGS:
        if condition.status in statuses and wording.search(condition.text):
            return error
    return _by_status(condition.status)


def _by_status(status: int) -> type[LLMError]:
    if status in {401, 403}:
        return AuthenticationError
    if status == 402:  # noqa: PLR2004 (Payment Required)
        return QuotaExhaustedError
    if status == 429:  # noqa: PLR2004 (Too Many Requests)
        return RateLimitError
    # 408, 409 and 425 ask to come again; an error in a 200 without any other sign is the provider's failure.
    if status in {408, 409, 425} or status < 300 or status >= 500:  # noqa: PLR2004 (HTTP classes)
        return ProviderError
    return BadRequestError


def _sentence(provider: str, model: str | None, number: str, shown: str, advice: str) -> str:
    about = f" for {model}" if model else ""
    said = f": {shown}" if shown else ""
    stop = "" if said.endswith((".", "!", "?", "…")) else "."
    return f"{provider} answered{about} with an error ({number}){said}{stop} {advice}"
