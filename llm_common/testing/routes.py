"""Which address belongs to which provider and endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llm_common.testing.errors import Problem
from llm_common.testing.wire import EndpointName, ProviderName

__all__ = ["Route", "route"]

_OPENAI_ENDPOINTS: Final[Mapping[str, EndpointName]] = {
    "/chat/completions": "chat",
    "/embeddings": "embeddings",
    "/models": "models",
}
_ZAI_ENDPOINTS: Final[Mapping[str, EndpointName]] = {**_OPENAI_ENDPOINTS, "/web_search": "search"}
_ANTHROPIC_ENDPOINTS: Final[Mapping[str, EndpointName]] = {"/messages": "messages", "/models": "models"}

_PREFIXES: Final[tuple[tuple[str, ProviderName, Mapping[str, EndpointName]], ...]] = (
    ("/api/coding/paas/v4", "zai", _ZAI_ENDPOINTS),
    ("/api/paas/v4", "zai", _ZAI_ENDPOINTS),
    ("/api/v1", "openrouter", _OPENAI_ENDPOINTS),
    ("/v1", "openai", _OPENAI_ENDPOINTS),
)


@dataclass(frozen=True, slots=True)
class Route:
    provider: ProviderName
    endpoint: EndpointName
    is_coding_plan: bool = False
    problem: Problem | None = None


def route(method: str, path: str, headers: Mapping[str, str]) -> Route:
    """Where a request goes. OpenAI and Anthropic share `/v1`; Anthropic's clients name their API version."""
    anthropic = path.startswith("/v1/messages") or (
        path.startswith("/v1/") and any(name.lower() == "anthropic-version" for name in headers)
    )
    if anthropic:
        return _checked(method, path, "anthropic", _ANTHROPIC_ENDPOINTS.get(path.removeprefix("/v1")))
    for prefix, provider, endpoints in _PREFIXES:
        if path.startswith(prefix + "/"):
            return _checked(method, path, provider, endpoints.get(path.removeprefix(prefix)))
    return _checked(method, path, _nearest(path), None)


def _checked(method: str, path: str, provider: ProviderName, endpoint: EndpointName | None) -> Route:
    if endpoint is None:
        return Route(provider, "unknown", problem=Problem(kind="unknown_path", subject=f"{method} {path}"))
    if method != ("GET" if endpoint == "models" else "POST"):
        wrong = Problem(kind="wrong_method", subject=f"{method} {path}")
        return Route(provider, endpoint, problem=wrong)
    return Route(provider, endpoint, path.startswith("/api/coding/"))


def _nearest(path: str) -> ProviderName:
    """Who would answer to an address that is nobody's: the one whose neighbourhood it is in."""
    if "/paas" in path:
        return "zai"
    return "openrouter" if path.startswith("/api") else "openai"
