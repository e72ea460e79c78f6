"""The name under which an answer is stored: everything that decides what a model may say, and who may see it. Pure."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast

from llm_common.llm.wire import WireRequest

__all__ = ["response_key"]

#: To be raised when what is stored, or what goes into the key, changes its meaning.
_VERSION = 1
#: What says who asks, not what is asked: never part of anything that is stored.
_SECRET = frozenset({"api_key", "api-key", "authorization", "proxy-authorization", "x-api-key"})


def response_key(request: WireRequest, *, project: str, user_id: str | None) -> str | None:
    """`"1:"` and a SHA-256 in hex. None for a request that JSON cannot carry, whose answer is not stored then.

    Over the place (provider, base URL), the model, messages, temperature, limit, tools, output schema and every other
    argument, each object's keys sorted; the API key is not in it. Projects do not share answers, nor do users.
    """
    route = request.route
    said = {
        "project": project,
        "user": user_id,
        "provider": route.provider,
        "base_url": route.base_url,
        "model": route.name,
        "messages": request.messages,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "response_format": request.response_format,
        "extra": _without_secrets(request.extra),
    }
    try:
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError):
        return None
    return f"{_VERSION}:{sha256(text.encode()).hexdigest()}"


def _without_secrets(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Without keys, wherever a caller may have put them: as an argument or as a header."""
    kept: dict[str, Any] = {}
    for name, value in extra.items():
        if name.lower() not in _SECRET:
            inner = isinstance(value, Mapping)
            kept[name] = _without_secrets(cast("Mapping[str, Any]", value)) if inner else value
    return kept


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise TypeError(type(value).__name__)
