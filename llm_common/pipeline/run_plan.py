"""What is known of a run's models before it begins: who answers, how much they read, and how long an answer may be."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from llm_common.exceptions import PipelineError
from llm_common.ledger.protocol import Ledger
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm_client import LLMClient
from llm_common.pipeline.context_window import WindowCapacity, window_capacity
from llm_common.pipeline.spec import AnalysisSpec, StepSettings
from llm_common.pipeline.subject import Subject

__all__ = ["OFFLINE", "RunPlan", "all_hosts", "check_origin", "plan_run"]

#: Who answers where a scripted provider plays the models.
OFFLINE: Final = "offline"
#: The most tokens of an answer, reasoning included, where its settings say nothing: several times what steps take, and
#: a fraction of what models could write, because a call that is cut is charged for the most that it could cost.
_MAX_TOKENS: Final = {"research": 16_384, "generate": 32_768, "review": 16_384, "refine": 32_768}
#: An answer has at most this share of a model's window.
_ANSWER: Final = 0.25


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`answered_by`: the hosts that the run asks, or `OFFLINE`; `settings` by step."""

    answered_by: str
    capacity: WindowCapacity
    settings: Mapping[str, StepSettings]


async def plan_run(subject: Subject, llm: LLMClient, ledger: Ledger, *, offline: bool) -> RunPlan:
    """Raises for a model that is unknown, without a key or too small, before anything is written or paid."""
    infos: dict[str, ModelInfo | None] = {}
    for model in dict.fromkeys(subject.models.values()):
        await llm.check(subject.spec.prompts.role, model, ledger=ledger)
        infos[model] = await llm.model_info(model)
    hosts = OFFLINE if offline else ", ".join(sorted({await llm.host(model) for model in infos}))
    settings = {step: _settings(subject.spec, step, infos[model]) for step, model in subject.models.items()}
    answers = [(model, infos[model], settings[step].max_tokens or 0) for step, model in subject.models.items()]
    return RunPlan(hosts, window_capacity(subject.spec, answers), settings)


def all_hosts(answered_by: str, before: str | None) -> str:
    """Those of this worker and of whoever began the run; a worker may reach the same provider by another address."""
    return ", ".join(sorted({*answered_by.split(", "), *(before or answered_by).split(", ")}))


def check_origin(run_id: str, answered_by: str | None, *, offline: bool) -> None:
    """Raises `PipelineError` where models would go on with what a script made up, or a script with theirs."""
    if answered_by is not None and (answered_by == OFFLINE) != offline:
        whom = "a scripted provider, offline" if answered_by == OFFLINE else answered_by
        instead = "a scripted provider answers here" if offline else "real models answer here"
        raise PipelineError(
            f"run {run_id} was answered by {whom}, and {instead}; go on with it there, or begin a new run",
            run_id=run_id,
        )


def _settings(spec: AnalysisSpec[Any], step: str, info: ModelInfo | None) -> StepSettings:
    settings = spec.settings(step)
    if settings.max_tokens is not None:
        return settings
    limits = [_MAX_TOKENS[step]]
    if info and info.max_output_tokens:
        limits.append(info.max_output_tokens)
    if info and info.max_input_tokens:
        limits.append(int(info.max_input_tokens * _ANSWER))
    return replace(settings, max_tokens=max(1, min(limits)))
