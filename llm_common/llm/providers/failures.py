"""What aiohttp reports, as our typed errors."""

from urllib.parse import urlsplit

import aiohttp

from llm_common.exceptions import (
    BadRequestError,
    ConnectionFailedError,
    DeadlineExceededError,
    InvalidAnswerError,
    LLMError,
)
from llm_common.llm.wire import Route

__all__ = ["OPENING_FAILURES", "READING_FAILURES", "failure"]

#: What reading a response over aiohttp raises. TimeoutError is an OSError.
READING_FAILURES = (aiohttp.ClientError, OSError)
#: What opening one raises besides: ValueError is for a base URL or a header that cannot be sent.
OPENING_FAILURES = (*READING_FAILURES, ValueError)


def failure(route: Route, error: Exception, *, begun: bool, timeout: float) -> LLMError:
    """The typed error for an exception of aiohttp.

    `begun`: the request had begun to go out, so the provider may have worked on it and may bill it.
    """
    host = urlsplit(route.base_url or "").hostname or "no host"
    kind, what, advice = _told(error, host, timeout, begun=begun)
    return kind(
        f"{what} ({route.provider}, {route.name}). {advice}",
        provider=route.provider,
        model=route.name,
        maybe_billed=begun and kind is not BadRequestError,
    )


def _told(error: Exception, host: str, timeout: float, *, begun: bool) -> tuple[type[LLMError], str, str]:
    reason = f"{type(error).__name__}: {error}"[:200].rstrip(": ")
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return ConnectionFailedError, f"cannot connect to {host} ({reason})", "Check the base URL and the network."
    if isinstance(error, TimeoutError):
        stage = "no complete answer" if begun else "no connection"
        return DeadlineExceededError, f"{stage} from {host} within {timeout:g} s", "Allow more time, or ask for less."
    if isinstance(error, ValueError | aiohttp.NonHttpUrlClientError):
        return BadRequestError, f"the base URL or a header cannot be sent ({reason})", "Check the base URL and the key."
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidAnswerError, f"{host} does not answer in HTTP ({reason})", "Check the base URL."
    return ConnectionFailedError, f"the connection to {host} broke ({reason})", "Try again."
