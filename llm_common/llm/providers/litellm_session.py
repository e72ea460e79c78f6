"""The HTTP session that we lend to LiteLLM, in the two forms in which its providers take one."""

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp

from llm_common._runtime.fork import fork_safe_lock
from llm_common._runtime.http_session import new_session
from llm_common._runtime.per_loop import PerLoop
from llm_common.llm.providers.litellm_traffic import note_sending, watch

if TYPE_CHECKING:
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

__all__ = ["LentSessions"]

#: Providers whose code in LiteLLM takes its own HTTP handler as `client`, and would otherwise make one for streams.
#: The others take `shared_session`: as `client` they want an SDK's. What neither reaches is judged by its exceptions.
_TAKE_A_HANDLER = frozenset(
    {
        "anthropic",
        "bedrock",
        "databricks",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
        "hosted_vllm",
        "huggingface",
        "minimax",
        "mistral",
        "ollama",
        "ollama_chat",
        "openrouter",
        "sagemaker_chat",
        "snowflake",
        "together_ai",
        "vercel_ai_gateway",
        "vertex_ai",
        "vertex_ai_beta",
        "xai",
    }
)
#: The same for vectors.
_EMBED_WITH_A_HANDLER = frozenset(
    {"cohere", "hosted_vllm", "infinity", "jina_ai", "openrouter", "sambanova", "vercel_ai_gateway", "voyage"}
)


class LentSessions:
    """One watched session per event loop. To be used after LiteLLM has been imported."""

    def __init__(self, *, connections: int) -> None:
        self._connections = connections
        self._sessions = PerLoop(self._make, aiohttp.ClientSession.close)
        self._handlers: dict[aiohttp.ClientSession, AsyncHTTPHandler] = {}
        self._guard = fork_safe_lock()

    async def arguments(self, provider: str) -> dict[str, Any]:
        """What makes `acompletion` use the running loop's session for this provider."""
        session = self._sessions.get()
        if provider in _TAKE_A_HANDLER:
            return {"client": self._handler(session)}
        return {"shared_session": session}

    async def embedding_arguments(self, provider: str) -> dict[str, Any]:
        """The same for `aembedding`, whose providers are served by other code of LiteLLM's."""
        session = self._sessions.get()
        if provider in _EMBED_WITH_A_HANDLER:
            return {"client": self._handler(session)}
        return {"shared_session": session}

    async def aclose(self) -> None:
        await self._sessions.aclose()

    def _make(self) -> aiohttp.ClientSession:
        _forget_cached_clients(id(asyncio.get_running_loop()))
        return new_session(self._connections, middlewares=(watch,), traces=(note_sending(),))

    def _handler(self, session: aiohttp.ClientSession) -> "AsyncHTTPHandler":
        handler = self._handlers.get(session)
        if handler is None:
            handler = _new_handler(session)
            with self._guard:
                for closed in [held for held in self._handlers if held.closed]:
                    del self._handlers[closed]
                self._handlers[session] = handler
        return handler


def _new_handler(session: aiohttp.ClientSession) -> "AsyncHTTPHandler":
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    return AsyncHTTPHandler(
        transport=LiteLLMAiohttpTransport(client=session, owns_session=False), follow_redirects=False
    )


def _forget_cached_clients(loop_id: int) -> None:
    """LiteLLM caches SDK clients by the loop's id, which a new loop may inherit from one that is gone.

    A client from before would go on with its closed session by making another, which nobody watches or closes.
    """
    import litellm

    cache: Any = litellm.in_memory_llm_clients_cache
    for key in [key for key in list(cache.cache_dict) if str(key).endswith(f"-{loop_id}")]:
        cache.delete_cache(key)
