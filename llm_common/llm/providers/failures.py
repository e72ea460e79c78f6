"""What aiohttp reports, as our typed errors."""

from urllib.parse import urlsplit

import aiohttp

from llm_common._text.redaction import presentable
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
#: What the same request meets again: a certificate, a proxy that refuses, a server that speaks no HTTP.
_FOR_GOOD = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientResponseError)
#: What opening one raises besides: ValueError is for a base URL or a header that cannot be sent.
OPENING_FAILURES = (*READING_FAILURES, ValueError)


def failure(route: Route, error: Exception, *, begun: bool, timeout: float) -> LLMError:
    """The typed error for an exception of aiohttp.

    `begun`: the request had begun to go out, so the provider may have worked on it and may bill it.
    """
    host = urlsplit(route.base_url or "").hostname or getattr(error, "host", None) or f"{route.provider}'s host"
    kind, what, advice = _in_words(error, host, timeout, begun=begun)
    failed = kind(
        f"{what} ({route.provider}, {route.name}). {advice}",
        provider=route.provider,
        model=route.name,
        maybe_billed=begun and kind is not BadRequestError,
    )
    # What comes out the same each time is not asked for again.
    failed.retryable = failed.retryable and not isinstance(error, _FOR_GOOD)
    return failed


def _in_words(error: Exception, host: str, timeout: float, *, begun: bool) -> tuple[type[LLMError], str, str]:
    reason = presentable(f"{type(error).__name__}: {error}").rstrip(": ")
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return ConnectionFailedError, *_no_connection(error, host, reason)
    if isinstance(error, TimeoutError):
        stage = "no complete answer" if begun else "no connection"
        return DeadlineExceededError, f"{stage} from {host} within {timeout:g} s", "Allow more time, or ask for less."
    if isinstance(error, ValueError | aiohttp.NonHttpUrlClientError):
        return BadRequestError, f"the base URL or a header cannot be sent ({reason})", "Check the base URL and the key."
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidAnswerError, f"{host} does not answer in HTTP ({reason})", "Check the base URL."
    return ConnectionFailedError, f"the connection to {host} broke ({reason})", "Try again."


def _no_connection(error: Exception, host: str, reason: str) -> tuple[str, str]:
    """What hindered it, and what to do: proxies are named, not the host that stands behind them."""
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        what = f"cannot connect to the proxy {error.host}:{error.port}, through which {host} is reached"
        return what, "Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses to connect to {host} (HTTP {error.status})", "Check HTTPS_PROXY and NO_PROXY."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {host} cannot be verified ({reason})", "Let SSL_CERT_FILE name who signed it."
    return f"cannot connect to {host} ({reason})", "Check the base URL and the network."
