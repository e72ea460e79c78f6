"""Calling LiteLLM: imported late, and without its wrapper where that has nothing to do."""

import asyncio
import os
import warnings
from datetime import datetime
from inspect import unwrap
from types import FunctionType, ModuleType
from typing import Any
from uuid import uuid4

__all__ = ["call_litellm", "has_listeners", "load_litellm"]

#: What a host can ask of the wrapper around LiteLLM's functions, in the module or as arguments of a call.
_CARRIED_OUT_BY_THE_WRAPPER = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
    "pre_call_rules",
    "post_call_rules",
    "enable_json_schema_validation",
    "cache",
    "credential_list",
    "max_budget",
    "modify_params",
)


async def call_litellm(litellm: ModuleType, function: str, arguments: dict[str, Any]) -> Any:
    """Call `function` below LiteLLM's wrapper, unless the host wants something that the wrapper does.

    The wrapper logs through one worker per process, which is tied to the event loop of its first call: the next loop
    gets its complaints. And what it does for nobody is a quarter of a call's CPU.
    """
    wrapped = getattr(litellm, function)
    if _wants_wrapper(litellm, arguments):
        return await wrapped(**arguments)
    arguments["litellm_call_id"] = str(uuid4())
    began = datetime.now()  # noqa: DTZ005 (LiteLLM subtracts it from its own naive times)
    logger, arguments = litellm.utils.function_setup(function, litellm.utils.Rules(), began, **arguments)
    logger._defer_async_logging = True  # noqa: SLF001 (the switch that LiteLLM's own proxy uses)
    arguments["litellm_logging_obj"] = logger
    return await unwrap(wrapped, stop=_is_foreign)(**arguments)


def has_listeners(litellm: ModuleType, function: str, arguments: dict[str, Any]) -> bool:
    """Whether the host has put something around LiteLLM's functions, or into them, that is to see its answers."""
    layer = getattr(litellm, function)
    while not _is_foreign(layer):
        if not hasattr(layer, "__wrapped__"):
            return _wants_wrapper(litellm, arguments)
        layer = layer.__wrapped__
    return True


def _wants_wrapper(litellm: ModuleType, arguments: dict[str, Any]) -> bool:
    return any(arguments.get(name) or getattr(litellm, name, None) for name in _CARRIED_OUT_BY_THE_WRAPPER)


def _is_foreign(layer: Any) -> bool:
    """Whether somebody has put this around LiteLLM's function to see its calls, as tracers do."""
    return type(layer) is not FunctionType or layer.__globals__["__name__"].partition(".")[0] != "litellm"


async def load_litellm() -> ModuleType:
    """LiteLLM, imported in a thread by whoever comes first: it takes seconds, which a host may want to spend early."""
    global _litellm  # noqa: PLW0603 (a module is loaded once per process)
    if _litellm is None:
        _litellm = await asyncio.to_thread(_load)
    return _litellm


_litellm: ModuleType | None = None


def _load() -> ModuleType:
    # Without these LiteLLM fetches a price list when it is imported and a list of headers at Anthropic's first call.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    import litellm

    with warnings.catch_warnings():
        # Models that pydantic builds on first use, and a remark of its about how LiteLLM declares one of them.
        warnings.filterwarnings("ignore", message=".*`ReadOnly` qualifier", category=UserWarning)
        litellm.ModelResponse()
        litellm.ModelResponseStream()
    litellm.suppress_debug_info = True
    return litellm
