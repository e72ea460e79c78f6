"""Providers by name. Each is imported when it is asked for."""

from pathlib import Path

from llm_common.exceptions import ConfigurationError
from llm_common.search.provider import SearchProvider
from llm_common.settings import PROVIDER_KEYS, Settings

__all__ = ["NAMES", "make_provider"]

NAMES = ("zai", "local")


def make_provider(name: str, api_key: str | None, base_url: str | None, settings: Settings) -> SearchProvider:
    """What is not passed comes from the environment. For `local`, `base_url` is the folder to search in."""
    if name == "local":
        if not base_url:
            raise ConfigurationError("provider 'local' needs base_url: the folder whose .txt and .md files it searches")
        from llm_common.search.local import LocalProvider, read_folder

        return LocalProvider(read_folder(Path(base_url)))
    if name != "zai":
        raise ConfigurationError(
            f"search provider {name!r} is unknown; use one of {', '.join(NAMES)}, or pass an object"
        )
    key = (api_key or settings.keys.get("zai") or "").strip()
    if not key:
        raise ConfigurationError(
            f"no key for web search: set {' or '.join(PROVIDER_KEYS['zai'])}, or pass WebSearchClient(api_key=...)"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the key for web search has characters in it that no HTTP header takes; copy it again")
    from llm_common.search.zai import DEFAULT_URL, ZaiProvider

    return ZaiProvider(key, base_url or settings.urls.get("zai") or DEFAULT_URL)
