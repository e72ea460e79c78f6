"""`GET /models`: which models there are."""

from collections.abc import Sequence
from typing import Final

from llm_common.testing.wire import Json, ProviderName

__all__ = ["render_models"]

_SINCE: Final = 1_760_000_000
_SINCE_TEXT: Final = "2025-10-09T08:53:20Z"
_CONTEXT_TOKENS: Final = 128_000


def render_models(provider: ProviderName, names: Sequence[str]) -> Json:
    if provider == "anthropic":
        data = [_anthropic(name) for name in names]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"data": data, "has_more": False, **ends}
    if provider == "openrouter":
        return {"data": [_openrouter(name) for name in names]}
    owner = {"object": "model", "created": _SINCE, "owned_by": "test"}
    return {"object": "list", "data": [{"id": name, **owner} for name in names]}


def _anthropic(name: str) -> Json:
    return {"type": "model", "id": name, "display_name": name, "created_at": _SINCE_TEXT}


def _openrouter(name: str) -> Json:
    return {"id": name, "name": name, "created": _SINCE, "context_length": _CONTEXT_TOKENS}
