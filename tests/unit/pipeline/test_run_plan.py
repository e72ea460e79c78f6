"""What a run's models may write, and whom a run asks, is decided before it begins."""

import pytest

from llm_common import LLMClient
from llm_common.exceptions import PipelineError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.pipeline.legislation import LEGISLATION
from llm_common.pipeline.run_plan import OFFLINE, RunPlan, all_hosts, check_origin, plan_run
from llm_common.pipeline.spec import AnalysisSpec, StepSettings
from llm_common.pipeline.subject import Subject
from llm_common.settings import Settings

SETTINGS = Settings(
    keys={"openai": "sk-1", "zai": "z-1"},
    urls={"zai": "https://user:secret@proxy.example:8443/z"},
    unknown_price="estimate",
)


def known(model: str, window: int | None, output: int | None) -> dict[str, ModelInfo]:
    provider, _, name = model.partition("/")
    return {model: ModelInfo(provider=provider, name=name, max_input_tokens=window, max_output_tokens=output)}


async def plan(window: int | None, output: int | None, *, offline: bool = False, **steps: StepSettings) -> RunPlan:
    spec = AnalysisSpec(name="rules", result=LEGISLATION.result, prompts=LEGISLATION.prompts, steps=steps)
    models = {"research": "zai/glm-5.3", "generate": "openai/gpt-test", "review": "zai/glm-5.3"}
    subject = Subject.checked("AB-1", "The board shall act.", "California", models, max_rounds=1, spec=spec)
    prices = known("openai/gpt-test", window, output)
    async with LLMClient(settings=SETTINGS, prices=prices) as llm:
        return await plan_run(subject, llm, LocalLedger(), offline=offline)


@pytest.mark.parametrize(
    ("window", "output", "most"),
    [(None, None, 32_768), (1_000_000, 128_000, 32_768), (1_000_000, 8_000, 8_000), (40_000, 32_000, 10_000)],
)
async def test_an_answer_is_bounded_by_step_model_and_window(window: int | None, output: int | None, most: int) -> None:
    """Without a word in the spec a draft has at most 32,768 tokens, less where its model writes or reads less."""
    settings = (await plan(window, output)).settings
    assert settings["generate"].max_tokens == settings["refine"].max_tokens == most
    assert settings["research"].max_tokens == settings["review"].max_tokens == 16_384


async def test_a_spec_says_how_long_an_answer_is() -> None:
    """A step's own max_tokens holds as it is, and leaves the less of a window for text the larger it is."""
    own = await plan(100_000, 50_000, generate=StepSettings(max_tokens=45_000, temperature=0.3))
    assert own.settings["generate"].max_tokens == own.settings["refine"].max_tokens == 45_000
    assert own.settings["generate"].temperature == 0.3
    assert (own.capacity.tokens or 0) < ((await plan(100_000, 50_000)).capacity.tokens or 0)


async def test_who_answers_is_the_host_without_its_secrets() -> None:
    """A run names the hosts that it asks, with ports and without credentials; a script is called offline."""
    assert (await plan(None, None)).answered_by == "api.openai.com, proxy.example:8443"
    assert (await plan(None, None, offline=True)).answered_by == OFFLINE
    assert all_hosts("a.example", None) == "a.example"
    assert all_hosts("b.example, c.example", "a.example, b.example") == "a.example, b.example, c.example"


@pytest.mark.parametrize(
    ("before", "offline", "message"),
    [
        (OFFLINE, False, "was answered by a scripted provider, offline, and real models answer here"),
        ("api.z.ai", True, "was answered by api.z.ai, and a scripted provider answers here"),
        (OFFLINE, True, None),
        ("api.z.ai", False, None),
        (None, False, None),
        (None, True, None),
    ],
)
def test_no_script_goes_on_with_a_real_run(before: str | None, offline: bool, message: str | None) -> None:
    """A run that models began is not finished by a script, nor the other way round; runs of before do not say."""
    if message is None:
        check_origin("r1", before, offline=offline)
        return
    with pytest.raises(PipelineError, match=message):
        check_origin("r1", before, offline=offline)
