"""`docs/models.md`: where each model name goes, from the table of the routing tests."""

from collections.abc import Iterator

from tests.docs.tables import table
from tests.unit.llm.test_routing import ALL, LOCAL, TABLE, Row

__all__ = ["models_page"]

_HEAD = ("Model", "`provider=`", "Keys set for", "Provider", "Name there", "Wire", "Base URL")
_ABOUT = f"""# Model names

Which provider a name goes to, under which name and over which wire. Every line is a test of
`tests/unit/llm/test_routing.py`. The key and the base URL always go with the model: a key is never sent to another
provider. *Keys set for* matters where a maker can also be reached through OpenRouter. `{LOCAL}`
stands for a `base_url` (or `OPENAI_BASE_URL` and its sisters) of your own, which takes every name as it is and needs no
key.

A name that nobody knows raises `ModelNotFoundError` with the names that look like it; a missing key raises
`ConfigurationError` with the variable to set. `wire="direct"` or `wire="litellm"` forces a wire and changes nothing
else.

"""


def models_page() -> str:
    return _ABOUT + table(_HEAD, _lines())


def _lines() -> Iterator[tuple[str, ...]]:
    for row in TABLE:
        yield (
            f"`{row.model}`",
            f"`{row.provider}`" if row.provider else "",
            _keys(row.keys),
            row.to,
            f"`{row.name}`",
            row.wire,
            _url(row),
        )


def _keys(keys: tuple[str, ...]) -> str:
    return "all four" if keys == ALL else ", ".join(keys) or "none"


def _url(row: Row) -> str:
    return row.url or "LiteLLM's default"
