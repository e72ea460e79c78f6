"""z.ai's web search over HTTP."""

from typing import Final

from llm_common.search.providers.http import HttpProvider
from llm_common.search.providers.zai_wire import ZaiWire

__all__ = ["DEFAULT_URL", "ZaiProvider"]

DEFAULT_URL: Final = "https://api.z.ai/api/paas/v4"


class ZaiProvider(HttpProvider):
    """`base_url` is what precedes `/web_search`."""

    def __init__(self, api_key: str, base_url: str = DEFAULT_URL) -> None:
        super().__init__(ZaiWire(), api_key, base_url, default_url=DEFAULT_URL)
