"""Providers by name. Each is imported when it is asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llm_common.exceptions import ConfigurationError
from llm_common.search.providers.protocol import SearchProvider
from llm_common.settings import SEARCH_KEYS, SEARCH_URLS, Settings

if TYPE_CHECKING:
    from llm_common.db.database import Database

__all__ = ["NAMES", "make_provider"]


def make_provider(
    name: str, api_key: str | None, base_url: str | None, settings: Settings, database: "Database | None" = None
) -> SearchProvider:
    """What is not passed comes from the environment.

    For `local`, `base_url` is the folder to search in; without one it searches the table search_documents of
    `database`.
    """
    if name not in NAMES:
        raise ConfigurationError(
            f"search provider {name!r} is unknown; use one of {', '.join(NAMES)}, or pass an object"
        )
    if name == "local":
        return _local(base_url, database)
    address = base_url or settings.search_urls.get(name)
    if name == "searxng":
        return _searxng(api_key or "", address)
    return _KEYED[name](_key(name, api_key or settings.search_keys.get(name)), address)


def _key(name: str, given: str | None) -> str:
    key = (given or "").strip()
    if not key:
        raise ConfigurationError(
            f"no key for web search with {name}: set {' or '.join(SEARCH_KEYS[name])}, "
            "or pass WebSearchClient(api_key=...)"
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"the key for {name} has characters in it that no HTTP header takes; copy it again")
    return key


def _zai(key: str, base_url: str | None) -> SearchProvider:
    from llm_common.search.providers.zai import DEFAULT_URL, ZaiProvider

    return ZaiProvider(key, base_url or DEFAULT_URL)


def _tavily(key: str, base_url: str | None) -> SearchProvider:
    from llm_common.search.providers.tavily import DEFAULT_URL, TavilyProvider

    return TavilyProvider(key, base_url or DEFAULT_URL)


def _brave(key: str, base_url: str | None) -> SearchProvider:
    from llm_common.search.providers.brave import DEFAULT_URL, BraveProvider

    return BraveProvider(key, base_url or DEFAULT_URL)


def _exa(key: str, base_url: str | None) -> SearchProvider:
    from llm_common.search.providers.exa import DEFAULT_URL, ExaProvider

    return ExaProvider(key, base_url or DEFAULT_URL)


_KEYED: Mapping[str, Callable[[str, str | None], SearchProvider]] = {
    "zai": _zai,
    "tavily": _tavily,
    "brave": _brave,
    "exa": _exa,
}
NAMES = (*_KEYED, "searxng", "local")


def _searxng(api_key: str, base_url: str | None) -> SearchProvider:
    if base_url is None:
        raise ConfigurationError(
            f"provider 'searxng' needs the address of an instance: set {SEARCH_URLS['searxng'][0]}, or pass base_url"
        )
    from llm_common.search.providers.searxng import SearxngProvider

    return SearxngProvider(base_url, api_key)


def _local(folder: str | None, database: "Database | None") -> SearchProvider:
    if folder:
        from llm_common.search.providers.local import LocalProvider, read_folder

        return LocalProvider(read_folder(Path(folder)))
    if database is None:
        raise ConfigurationError(
            "provider 'local' needs base_url, the folder whose .txt and .md files it searches, or a database with "
            "documents in search_documents"
        )
    from llm_common.search.providers.documents import DocumentProvider

    return DocumentProvider(database)
