"""What both wires do with a response of aiohttp."""

from urllib.parse import urlsplit

import aiohttp

from llm_common.exceptions import BadRequestError, LLMError
from llm_common.llm.error_mapping import classify
from llm_common.llm.providers.failures import too_large
from llm_common.llm.request_encoding import prompt_text
from llm_common.llm.wire import EmbeddingRequest, Route, WireRequest

__all__ = ["OK", "read_whole", "refusal"]

OK = 200


async def read_whole(route: Route, response: aiohttp.ClientResponse, largest: int) -> bytes:
    """The body. Raises `InvalidAnswerError` beyond `largest` bytes, and whatever aiohttp raises."""
    pieces: list[bytes] = []
    size = 0
    while not response.content.at_eof():
        piece = await response.content.readany()
        size += len(piece)
        if size > largest:
            raise too_large(route, "an answer")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def refusal(request: WireRequest | EmbeddingRequest, response: aiohttp.ClientResponse, received: bytes) -> LLMError:
    """The typed error for a status other than 200."""
    route = request.route
    if 300 <= response.status < 400:  # noqa: PLR2004 (redirects)
        return BadRequestError(
            f"{route.provider} redirects to {urlsplit(response.headers.get('Location', '')).hostname or 'nowhere'} "
            f"(HTTP {response.status}), and keys are not sent on. Use the final address as base URL.",
            provider=route.provider,
            model=route.name,
            status=response.status,
        )
    return classify(
        route.provider,
        response.status,
        response.headers,
        received,
        model=route.name,
        api_key=route.api_key,
        sent=prompt_text(request),
    )
