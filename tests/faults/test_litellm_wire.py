"""What only the LiteLLM wire does: hold back what LiteLLM and the SDKs in it would do on their own."""

from collections.abc import AsyncGenerator

import pytest
from pydantic import BaseModel

from llm_common.exceptions import ConnectionFailedError, LLMError, ProviderError
from llm_common.llm.providers.litellm_wire import LiteLLMWire, load_litellm
from llm_common.llm.wire import Route, WireRequest
from llm_common.llm_client import LLMClient
from llm_common.local_ledger import LocalLedger
from llm_common.testing import FakeProvider, Fault

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


async def test_a_host_with_a_hook_in_litellm_is_called(
    wire: LiteLLMWire, fake_provider_env: FakeProvider, monkeypatch: pytest.MonkeyPatch
):
    """The wire calls below LiteLLM's wrapper only where the host has nothing there for the wrapper to do."""
    litellm = await load_litellm()
    from litellm.integrations.custom_logger import CustomLogger

    seen: list[str] = []

    class Hook(CustomLogger):
        async def async_pre_call_deployment_hook(self, kwargs, call_type):
            seen.append(kwargs["model"])
            return kwargs

    route = Route(
        asked="m",
        provider="openai",
        name="m",
        wire="litellm",
        base_url=fake_provider_env.openai_url,
        api_key=fake_provider_env.api_key,
    )
    request = WireRequest(route=route, messages=({"role": "user", "content": "Hi"},), max_tokens=50)
    assert (await wire.send(request, timeout=PATIENT)).text
    assert seen == []
    monkeypatch.setattr(litellm, "callbacks", [Hook()])
    assert (await wire.send(request, timeout=PATIENT)).text
    assert seen == ["openai/m"]
