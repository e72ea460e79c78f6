"""What it takes until a library can be used: whole processes, from start to exit."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Final

from benchmarks.processes import in_turn

__all__ = ["ImportCost", "imports"]


@dataclass(frozen=True)
class _Row:
    """`imported` only imports; `ready` also makes what a first call needs, short of the network."""

    distribution: str
    imported: str
    ready: str


#: httpx also imports its command line, where rich and click are installed; so this is httpx without them.
_WITHOUT_CLI: Final = "import sys; sys.modules.update(dict.fromkeys(('rich', 'click', 'pygments'))); "
_CHECK: Final = """
import asyncio, llm_common
from llm_common.ledger.local import LocalLedger
asyncio.run(llm_common.LLMClient("openai", "key", cost_tracker=LocalLedger()).check("Hello", "gpt-6-luna"))
"""
_SESSION: Final = """
import asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession():
        pass
asyncio.run(main())
"""
_ROWS: Final[Mapping[str, _Row]] = {
    "llm_common": _Row("llm-common", "import llm_common; llm_common.LLMClient", _CHECK),
    "httpx": _Row("httpx", f"{_WITHOUT_CLI}import httpx", f"{_WITHOUT_CLI}import httpx; httpx.AsyncClient()"),
    "httpx, with rich and click": _Row("httpx", "import httpx", "import httpx; httpx.AsyncClient()"),
    "aiohttp": _Row("aiohttp", "import aiohttp", _SESSION),
    "openai": _Row("openai", "import openai", "import openai; openai.AsyncOpenAI(api_key='key').chat.completions"),
    "litellm": _Row("litellm", "import litellm", "import litellm; litellm.acompletion"),
}


@dataclass(frozen=True)
class ImportCost:
    """Medians in milliseconds; the ratios are to httpx without rich and click."""

    name: str
    version: str
    import_ms: float
    import_ratio: float
    ready_ms: float
    ready_ratio: float


def imports(rounds: int) -> list[ImportCost]:
    programs = {f"import {name}": ("-c", row.imported) for name, row in _ROWS.items()}
    programs |= {f"ready {name}": ("-c", row.ready) for name, row in _ROWS.items()}
    took = {
        name: median(process.seconds for process in processes) for name, processes in in_turn(programs, rounds).items()
    }
    return [
        ImportCost(
            name=name,
            version=version(row.distribution),
            import_ms=took[f"import {name}"] * 1000,
            import_ratio=took[f"import {name}"] / took["import httpx"],
            ready_ms=took[f"ready {name}"] * 1000,
            ready_ratio=took[f"ready {name}"] / took["ready httpx"],
        )
        for name, row in _ROWS.items()
    ]
