"""Ask a provider for its list of models: free, and enough to know that it answers and takes the key."""

from dataclasses import dataclass

import aiohttp

from llm_common.llm.routing import DEFAULT_URLS

__all__ = ["ProbeAnswer", "probe"]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """`status` is HTTP's, None where nothing answered."""

    url: str
    status: int | None


async def probe(provider: str, base_url: str | None, api_key: str, *, seconds: float) -> ProbeAnswer:
    """`GET /models` at a provider, waiting at most `seconds`."""
    base = base_url or DEFAULT_URLS[provider]
    if provider == "anthropic":
        url, headers = f"{base}/v1/models", {"x-api-key": api_key, "anthropic-version": "2023-06-01"}
    else:
        url, headers = f"{base}/models", {"Authorization": f"Bearer {api_key}"}
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            return ProbeAnswer(base, response.status)
    except (aiohttp.ClientError, TimeoutError):
        return ProbeAnswer(base, None)
