"""What only the LiteLLM wire does: hold back what LiteLLM and the SDKs in it would do on their own."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from functools import wraps
from types import ModuleType

import pytest
from pydantic import BaseModel

from llm_common.exceptions import ConnectionFailedError, LLMError, ProviderError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.providers.litellm_call import _CARRIED_OUT_BY_THE_WRAPPER, load_litellm
from llm_common.llm.providers.litellm_wire import LiteLLMWire
from llm_common.llm.wire import Route, WireRequest
from llm_common.llm_client import LLMClient
from llm_common.testing import FakeProvider, Fault, Reply

# LiteLLM silences this remark about itself when it is imported; pytest brings it back.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

PATIENT = 60.0


class Verdict(BaseModel):
    guilty: bool


@pytest.fixture
async def wire() -> AsyncGenerator[LiteLLMWire]:
    wire = LiteLLMWire()
    yield wire
    await wire.aclose()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The waits of OpenAI's SDK before another request of its own, as far as they were sat out."""
    from openai._base_client import AsyncAPIClient

    finished: list[str] = []
    wait = AsyncAPIClient._sleep_for_retry

    async def noted(self, **arguments):
        await wait(self, **arguments)
        finished.append("waited")

    monkeypatch.setattr(AsyncAPIClient, "_sleep_for_retry", noted)
    return finished


@pytest.mark.parametrize(
    ("provider", "fault", "error"),
    [
        # LiteLLM does not pass `max_retries` on for this one.
        ("deepinfra", Fault.server_error(500), ProviderError),
        ("deepinfra", Fault.reset_before_bytes(), ConnectionFailedError),
        ("zai", Fault.server_error(500), ProviderError),
        ("zai", Fault.reset_after_bytes(20), ConnectionFailedError),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "name", ""),
)
async def test_no_time_is_lost_to_the_retries_of_an_sdk(
    provider: str,
    fault: Fault,
    error: type[LLMError],
    wire: LiteLLMWire,
    waits: list[str],
    fake_provider_env: FakeProvider,
):
    """An SDK that would ask again is not waited for: the time belongs to the caller's own policy."""
    url = fake_provider_env.zai_url if provider == "zai" else fake_provider_env.openai_url
    route = Route(
        asked="m", provider=provider, name="m", wire="litellm", base_url=url, api_key=fake_provider_env.api_key
    )
    request = WireRequest(route=route, messages=({"role": "user", "content": "Hi"},), max_tokens=50)
    fake_provider_env.script(fault)
    with pytest.raises(error):
        await wire.send(request, timeout=PATIENT)
    assert (waits, len(fake_provider_env.requests)) == ([], 1)
    assert (await wire.send(request, timeout=PATIENT)).text


async def test_json_mode_of_zai(fake_provider_env: FakeProvider):
    """LiteLLM does not know that z.ai has one; structured output needs it."""
    async with LLMClient(cost_tracker=LocalLedger(), wire="litellm") as llm:
        assert await llm.chat("Judge!", "zai/glm-5.3", Verdict, max_tokens=500) == Verdict(guilty=False)
    assert fake_provider_env.requests[0].body["response_format"] == {"type": "json_object"}


@pytest.fixture
def plain(fake_provider_env: FakeProvider) -> WireRequest:
    route = Route(
        asked="m",
        provider="openai",
        name="m",
        wire="litellm",
        base_url=fake_provider_env.openai_url,
        api_key=fake_provider_env.api_key,
    )
    return WireRequest(route=route, messages=({"role": "user", "content": "Hi"},), max_tokens=50)


@pytest.fixture
async def litellm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """LiteLLM as a host may set it up, which ends with the test."""
    litellm = await load_litellm()
    for moment in ("input", "success", "failure"):
        monkeypatch.setattr(litellm, f"{moment}_callback", [])
        monkeypatch.setattr(litellm, f"_async_{moment}_callback", [])
    return litellm


async def test_litellm_knows_what_the_wire_looks_for(litellm: ModuleType):
    """A setting that another version renames would be passed by in silence."""
    assert [name for name in _CARRIED_OUT_BY_THE_WRAPPER if not hasattr(litellm, name)] == []


async def test_a_host_s_hook_in_litellm_is_called(
    wire: LiteLLMWire, plain: WireRequest, litellm: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    """The wire calls below LiteLLM's wrapper only where the host has nothing there for the wrapper to do."""
    from litellm.integrations.custom_logger import CustomLogger

    seen: list[str] = []

    class Hook(CustomLogger):
        async def async_pre_call_deployment_hook(self, kwargs, call_type):
            seen.append(kwargs["model"])
            return kwargs

    await wire.send(plain, timeout=PATIENT)
    monkeypatch.setattr(litellm, "callbacks", [Hook()])
    await wire.send(plain, timeout=PATIENT)
    assert seen == ["openai/m"]


async def test_a_host_s_callback_in_litellm_hears_of_every_call(
    wire: LiteLLMWire, plain: WireRequest, litellm: ModuleType
):
    """LiteLLM moves asynchronous callbacks to a list of their own at the first call."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    heard: list[str] = []

    async def note(kwargs, response, began, ended):
        heard.append(kwargs["model"])

    litellm.success_callback.append(note)
    try:
        for _ in range(2):
            await wire.send(plain, timeout=PATIENT)
        async with asyncio.timeout(PATIENT):
            while len(heard) < 2:
                await asyncio.sleep(0.01)
    finally:
        await GLOBAL_LOGGING_WORKER.stop()
    assert heard == ["m", "m"]


@pytest.mark.parametrize(
    "settings",
    [
        {"post_call_rules": [lambda text: {"decision": False, "message": f"not {text!r}"}]},
        {"max_budget": 1.0, "_current_cost": 2.0},
    ],
    ids=["rule", "budget"],
)
async def test_a_host_s_rules_in_litellm_are_kept(
    settings: dict[str, object],
    wire: LiteLLMWire,
    plain: WireRequest,
    litellm: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in settings.items():
        monkeypatch.setattr(litellm, name, value)
    with pytest.raises(LLMError):
        await wire.send(plain, timeout=PATIENT)


async def test_a_tracer_around_litellm_sees_the_call(
    wire: LiteLLMWire, plain: WireRequest, litellm: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    """Whoever has put something around LiteLLM's function is not gone past."""
    traced, seen = litellm.acompletion, []

    @wraps(traced)
    async def tracer(**arguments):
        seen.append(arguments["model"])
        return await traced(**arguments)

    monkeypatch.setattr(litellm, "acompletion", tracer)
    await wire.send(plain, timeout=PATIENT)
    assert seen == ["openai/m"]


async def test_a_stream_leaves_no_generator_behind_for_each_chunk(
    wire: LiteLLMWire, plain: WireRequest, fake_provider_env: FakeProvider
):
    """LiteLLM begins OpenAI's stream anew for each chunk; the loop then closes what it began in a task of its own."""
    hooks, left = sys.get_asyncgen_hooks(), []

    def note(generator):
        left.append(generator.__qualname__)
        hooks.finalizer(generator)

    fake_provider_env.script(Reply(text="one two three", pieces=("one ", "two ", "three")))
    sys.set_asyncgen_hooks(finalizer=note)
    try:
        async with wire.stream(plain, timeout=PATIENT) as chunks:
            text = "".join([chunk.text async for chunk in chunks])
    finally:
        sys.set_asyncgen_hooks(finalizer=hooks.finalizer)
    assert text == "one two three"
    assert "AsyncStream.__aiter__" not in left
