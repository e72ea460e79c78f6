"""`docs/errors.md`: what providers report, and which error it becomes, from the recorded answers."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llm_common.exceptions import LLMError
from llm_common.llm.error_mapping import ADVICE, classify
from tests.docs.tables import table

__all__ = ["errors_page"]

FIXTURES = Path(__file__).parents[1] / "unit" / "llm" / "fixtures" / "errors"
_HEAD = ("Provider", "HTTP", "Code", "Condition", "Error", "Retried", "Next model", "May be billed", "What to do")
_PROVIDERS = {"openai": "OpenAI", "openrouter": "OpenRouter", "zai": "z.ai", "anthropic": "Anthropic"}
_ABOUT = """# Provider conditions and the errors that they become

Each line is an answer recorded in `tests/unit/llm/fixtures/errors` and read by the code that reads real ones.
*Retried*: the same model is asked again, after `Retry-After` where the provider sent one. *Next model*: a fallback
chain goes on.
*May be billed*: the provider may have worked on the request, so it is charged although it failed.

Errors that are no provider's answer (no connection, no time left, a budget) are in the docstring of
`llm_common.exceptions`, which draws the whole tree; what comes of broken connections is in [faults.md](faults.md).

"""


def errors_page() -> str:
    recorded = [json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))]
    order = list(_PROVIDERS)
    recorded.sort(key=lambda each: (order.index(each["provider"]), each["status"], each["condition"]))
    return _ABOUT + table(_HEAD, map(_line, recorded))


def _line(recorded: dict[str, Any]) -> tuple[str, ...]:
    body = recorded["body"] if isinstance(recorded["body"], str) else json.dumps(recorded["body"])
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    error = classify(recorded["provider"], recorded["status"], recorded["headers"], body, model="m", now=now)
    return (
        _PROVIDERS[recorded["provider"]],
        str(recorded["status"]),
        f"`{error.code}`" if error.code else "",
        recorded["condition"],
        f"`{type(error).__name__}`",
        _retried(error),
        "yes" if error.fallback else "no",
        "yes" if error.maybe_billed else "no",
        ADVICE[type(error)],
    )


def _retried(error: LLMError) -> str:
    if not error.retryable:
        return "no"
    return "yes" if error.retry_after is None else f"after {error.retry_after:g} s"
