"""What LiteLLM raises, as our typed errors, where the session has not seen the facts itself."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import aiohttp
import httpx
from pydantic import ValidationError

from llm_common._text.redaction import presentable
from llm_common.exceptions import (
    BadRequestError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidAnswerError,
    LLMError,
)
from llm_common.llm.error_mapping import classify
from llm_common.llm.providers.failures import failure
from llm_common.llm.request_encoding import prompt_text
from llm_common.llm.wire import EmbeddingRequest, Route, WireRequest

__all__ = ["is_local", "litellm_failure", "unsent"]

_LONGEST_BODY = 20_000
_CREDENTIALS = re.compile(r"api[ _-]?key|credential|authenticat|_TOKEN\b|_ID\b", re.IGNORECASE)
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:KEY|TOKEN|ID|PROJECT|LOCATION)\b")


def litellm_failure(
    request: WireRequest | EmbeddingRequest, error: Exception, *, begun: bool, answered: bool, timeout: float
) -> LLMError:
    """Judge by the status, the text and the causes that the exception carries, never by LiteLLM's class for it.

    `begun`: a request went out; `answered`: a 200 had begun to arrive, so the error is inside of it.
    """
    links = list(_chain(error))
    for link in links:
        if isinstance(link, LLMError):
            return link
        if (broken := _broken_transport(request.route, link, timeout)) is not None:
            return broken
    if any(isinstance(link, json.JSONDecodeError | ValidationError) for link in links):
        return _unreadable(request.route, error)
    told = _classified(request, links, answered=answered)
    told.maybe_billed = told.maybe_billed or (begun and not isinstance(told.status, int))
    return told


def is_local(error: Exception) -> bool:
    """Whether an exception has nothing of a network's in it: LiteLLM raised it before anything went out."""
    return not any(isinstance(link, aiohttp.ClientError | httpx.HTTPError | OSError) for link in _chain(error))


def unsent(request: WireRequest | EmbeddingRequest, error: Exception) -> LLMError | ConfigurationError:
    """The error for what LiteLLM raises before anything has gone out: it would raise the same again."""
    route, links = request.route, list(_chain(error))
    told = presentable(_first_words(links[-1]), secrets=(route.api_key or "",), sent=prompt_text(request))
    if any(isinstance(link, ImportError) or "No module named" in str(link) for link in links):
        return ConfigurationError(f"{route.provider} needs a package that is not installed ({told}). Nothing was sent.")
    if route.api_key is None and _CREDENTIALS.search(told):
        variables = _variables(request, told)
        return ConfigurationError(
            f"model {route.asked!r} is reached at {route.provider}, and there is no key for it: set {variables}, or "
            f"pass api_key= with provider={route.provider!r}. LiteLLM says: {told} Nothing was sent."
        )
    known = next((link for link in links if isinstance(link, LLMError)), None)
    return known or BadRequestError(
        f"LiteLLM cannot make this request for {route.provider}, {route.name} ({told}). Change it. Nothing was sent.",
        provider=route.provider,
        model=route.name,
        status=next((status for link in links if (status := _status(link))), None),
    )


def _variables(request: WireRequest | EmbeddingRequest, told: str) -> str:
    """The variables of the environment that LiteLLM looks into for a provider's key."""
    import litellm

    found = cast("Any", litellm).validate_environment(model=f"{request.route.provider}/{request.route.name}")
    named = [name for name in _VARIABLE.findall(told) if not name.startswith("OPENAI_") and "OPENAI" not in name]
    names = list(dict.fromkeys([*found.get("missing_keys", ()), *named]))
    # Keys are spellings of one and the same, everything else is needed beside them.
    return (" or " if all(name.endswith("_KEY") for name in names) else " and ").join(names) or "its variable"


def _first_words(link: BaseException) -> str:
    """What an exception says, without the traceback that LiteLLM prints into some."""
    return str(link).partition("Traceback (most recent call last)")[0].strip()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, the first cause last."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _broken_transport(route: Route, link: BaseException, timeout: float) -> LLMError | None:
    if isinstance(link, aiohttp.ClientError | OSError):
        return failure(route, link, begun=True, timeout=timeout)
    if isinstance(link, httpx.TransportError) and link.__cause__ is None:
        connecting = isinstance(link, httpx.ConnectError | httpx.ConnectTimeout)
        late = isinstance(link, httpx.TimeoutException)
        kind = DeadlineExceededError if late else ConnectionFailedError
        return kind(
            f"the connection to {route.provider} for {route.name} failed ({type(link).__name__}). Try again.",
            provider=route.provider,
            model=route.name,
            maybe_billed=not connecting,
        )
    return None


def _unreadable(route: Route, error: Exception) -> InvalidAnswerError:
    return InvalidAnswerError(
        f"the answer of {route.provider} for {route.name} cannot be read (see raw_text). Try again.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
        raw_text=str(error),
    )


def _classified(request: WireRequest | EmbeddingRequest, links: list[BaseException], *, answered: bool) -> LLMError:
    # The deepest exception with a status is the provider's own; the ones above are LiteLLM's reading of it.
    told = next((link for link in reversed(links) if _status(link) or _has_body(link)), links[0])
    status, body = _status(told) or 500, _body(told)
    if answered and "error" not in body:
        body = {"error": {"code": status, **body}}
    route = request.route
    return classify(
        route.provider,
        200 if answered else status,
        _headers(told),
        body,
        model=route.name,
        api_key=route.api_key,
        sent=prompt_text(request),
    )


def _status(link: BaseException) -> int | None:
    status: object = getattr(link, "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None  # noqa: PLR2004 (HTTP errors)


def _has_body(link: BaseException) -> bool:
    return isinstance(getattr(link, "body", None), Mapping)


def _headers(link: BaseException) -> Mapping[str, str]:
    headers: object = getattr(link, "headers", None) or getattr(getattr(link, "response", None), "headers", None)
    return dict(cast("Mapping[str, str]", headers)) if isinstance(headers, Mapping) else {}


def _body(link: BaseException) -> dict[str, Any]:
    body: object = getattr(link, "body", None)
    if isinstance(body, Mapping):
        return dict(cast("Mapping[str, Any]", body))
    text = _first_words(link)
    return _parsed(text[text.find("{") :]) or {"message": text}


def _parsed(text: str) -> dict[str, Any]:
    """JSON, or the repr of a dict, as exceptions print it."""
    if not text.startswith("{") or len(text) > _LONGEST_BODY:
        return {}
    for read in (json.loads, ast.literal_eval):
        try:
            value: object = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
    return {}
