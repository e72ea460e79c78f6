"""A provider server and pytest fixtures, for the tests of this package and of the hosts that use it.

>>> from llm_common.testing import FakeProvider, Fault
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llm_common.testing.billing import TokenPrice
    from llm_common.testing.faults import Fault
    from llm_common.testing.network import NetworkBlockedError, block_network
    from llm_common.testing.server import FakeProvider, serve_forever
    from llm_common.testing.wire import Answer, ChatRequest, RecordedRequest, Reply, SearchRequest

__all__ = [
    "Answer",
    "ChatRequest",
    "FakeProvider",
    "Fault",
    "NetworkBlockedError",
    "RecordedRequest",
    "Reply",
    "SearchRequest",
    "TokenPrice",
    "block_network",
    "serve_forever",
]

# Loaded on first use: the pytest plugin is imported in every test run of a host, and must cost nothing.
_HOMES: Final = {
    "Answer": "wire",
    "ChatRequest": "wire",
    "FakeProvider": "server",
    "Fault": "faults",
    "NetworkBlockedError": "network",
    "RecordedRequest": "wire",
    "Reply": "wire",
    "SearchRequest": "wire",
    "TokenPrice": "billing",
    "block_network": "network",
    "serve_forever": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
