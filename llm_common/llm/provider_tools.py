"""Tools that run at the provider: how often it may search the web for one request. Pure.

A search has a fee of its own, and what it finds is read by the model, which is billed as input. Sources:
https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/web-search-tool, https://ai.google.dev/gemini-api/docs/google-search,
https://openrouter.ai/docs/features/web-search, https://docs.x.ai/docs/guides/live-search
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

__all__ = ["TOKENS_PER_SEARCH", "bounded_tools", "most_searches"]

Tools = tuple[Mapping[str, Any], ...]

#: How often a model may search where nothing else bounds it. Anthropic is told so; the others search less.
_MOST_SEARCHES = 10
#: What the model reads of one search. Anthropic's bring some 5,000 tokens, Gemini's and OpenRouter's fewer.
TOKENS_PER_SEARCH = 10_000
_ANTHROPIC = "web_search_"
_TYPES = ("web_search", "browser_search")
_KEYS = frozenset({"googleSearch", "google_search", "googleSearchRetrieval", "enterpriseWebSearch"})
_ARGUMENTS = ("web_search_options", "search_parameters", "enable_search")


def most_searches(tools: Iterable[Mapping[str, Any]], arguments: Mapping[str, Any]) -> int:
    """How often the provider may search the web for a request with these tools and arguments."""
    return sum(map(_searches, tools)) + sum(map(_asked, (arguments, arguments.get("extra_body"))))


def bounded_tools(tools: Tools) -> Tools:
    """The tools, with a `max_uses` for Anthropic's search: without one the model may search, and be paid, at will."""
    if not any(_is_unbounded(tool) for tool in tools):
        return tools
    return tuple({**tool, "max_uses": _MOST_SEARCHES} if _is_unbounded(tool) else tool for tool in tools)


def _is_unbounded(tool: Mapping[str, Any]) -> bool:
    return str(tool.get("type")).startswith(_ANTHROPIC) and not tool.get("max_uses")


def _searches(tool: Mapping[str, Any]) -> int:
    if str(tool.get("type")).startswith(_TYPES):
        uses = tool.get("max_uses")
        return uses if isinstance(uses, int) and uses > 0 else _MOST_SEARCHES
    return 0 if _KEYS.isdisjoint(tool) else _MOST_SEARCHES


def _asked(arguments: object) -> int:
    if not isinstance(arguments, Mapping) or not arguments:
        return 0
    given = cast("Mapping[str, Any]", arguments)
    plugins: object = given.get("plugins")
    by_plugin = isinstance(plugins, list) and any(
        isinstance(plugin, Mapping) and cast("Mapping[str, Any]", plugin).get("id") == "web"
        for plugin in cast("list[object]", plugins)
    )
    return _MOST_SEARCHES if by_plugin or any(given.get(name) for name in _ARGUMENTS) else 0
