"""Providers by name: those whose modules beside this one have `FACTS`, and `local`."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from llm_common._text.redaction import Secret
from llm_common.exceptions import ConfigurationError
from llm_common.search.providers.facts import ProviderFacts
from llm_common.search.providers.protocol import SearchProvider
from llm_common.settings import Settings

if TYPE_CHECKING:
    from llm_common.db.database import Database

__all__ = ["NAMES", "SERVICES", "advice", "check_name", "make_provider", "ready"]

#: Not services; some are slow to import.
_OTHERS: Final = frozenset({"documents", "facts", "http", "local", "parsing", "protocol", "registry"})


def _services() -> Mapping[str, ProviderFacts]:
    package = f"{__package__}."
    names = [one.name for one in iter_modules([str(Path(__file__).parent)]) if one.name not in _OTHERS]
    found: list[ProviderFacts] = [import_module(package + name).FACTS for name in names]
    return MappingProxyType({facts.name: facts for facts in sorted(found, key=lambda facts: (facts.rank, facts.name))})


#: Name -> facts, in the order in which the CLI asks them.
SERVICES: Final = _services()
NAMES: Final = (*SERVICES, "local")


def ready(settings: Settings) -> tuple[str, ...]:
    """The services that have what they need in the environment: a key, or an address where they have none."""
    return tuple(
        name
        for name, facts in SERVICES.items()
        if (not facts.key_variables or settings.variable(*facts.key_variables))
        and (facts.base_url or settings.variable(*facts.url_variables))
    )


def advice() -> str:
    """What to set to search the web: `ZAI_API_KEY, TAVILY_API_KEY or SEARXNG_BASE_URL`."""
    *names, last = (facts.variables.split(" or ")[0] for facts in SERVICES.values())
    return f"{', '.join(names)} or {last}"


def check_name(name: str) -> None:
    if name not in NAMES:
        raise ConfigurationError(
            f"search provider {name!r} is unknown; use one of {', '.join(NAMES)}, or pass an object"
        )


def make_provider(
    name: str, api_key: str | None, base_url: str | None, settings: Settings, database: "Database | None" = None
) -> SearchProvider:
    """What is not passed comes from the environment. Raises `ConfigurationError` that says what is missing.

    For `local`, `base_url` is the folder to search in; without one it searches the table search_documents of
    `database`.
    """
    check_name(name)
    if name == "local":
        return _local(base_url, database)
    facts = SERVICES[name]
    key = Secret((api_key or settings.variable(*facts.key_variables) or "").strip())
    address = base_url or settings.variable(*facts.url_variables) or facts.base_url
    if facts.key_variables and not key:
        raise ConfigurationError(
            f"no key for web search with {name}: set {facts.variables}, or pass WebSearchClient(api_key=...)"
        )
    if address is None:
        raise ConfigurationError(
            f"provider {name!r} needs the address of an instance: set {facts.url_variables[0]}, or pass base_url"
        )
    from llm_common.search.providers.http import HttpProvider

    return HttpProvider(facts, key, address)


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
