"""The arguments of a call over those of its profile, checked: what is asked, and what the call says about itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.llm.calls import CallOptions, checked_messages
from llm_common.llm.candidates import Question
from llm_common.llm.profile import NO_PROFILE, Profile
from llm_common.llm.structured import output_spec
from llm_common.models import check_tags

__all__ = ["options_of", "question_of"]


def question_of(
    messages: str | Sequence[Mapping[str, Any]],
    *,
    response_model: Any = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    profile: Profile = NO_PROFILE,
) -> Question:
    """What the caller says wins over the profile. Raises `InvalidInputError` for what cannot be asked."""
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    if extra and "hedge_after" in extra:
        raise InvalidInputError("hedge_after is for complete() and chat(); two streams at once cannot be told apart")
    if response_model is not None and extra and "response_format" in extra:
        raise InvalidInputError("give response_model= or response_format=, not both: the model makes the format")
    return Question(
        messages=checked_messages(messages),
        output=None if response_model is None else output_spec(response_model),
        temperature=profile.temperature_for(temperature),
        max_tokens=profile.max_tokens if max_tokens is None else max_tokens,
        tools=tuple(tools),
        tool_choice=tool_choice,
        extra=profile.extra_for(extra or {}),
    )


def options_of(
    model: str | None,
    models: Sequence[str],
    timeout: float | None,
    profile: Profile,
    default_model: str | None,
    default_timeout: float,
    *,
    step: str | None = None,
    user_id: str | None = None,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    fallback_on_content_policy: bool = False,
    hedge_after: float | None = None,
) -> CallOptions:
    """The call's models and seconds, else the profile's, else the client's.

    Raises `InvalidInputError`, or `ConfigurationError` where no model is named anywhere.
    """
    if model is not None and models:
        raise InvalidInputError("give model= or models=, not both")
    if isinstance(models, str):
        raise InvalidInputError(f"models must be a list of names; for one model use model={models!r}")
    if model:
        chain = (model,)
    elif not (chain := tuple(models) or profile.models):
        if not default_model:
            raise ConfigurationError(_no_model(profile))
        chain = (default_model,)
    if timeout is None:
        timeout = profile.timeout or default_timeout
    if not timeout > 0:
        raise InvalidInputError(f"timeout must be more than 0 seconds, got {timeout!r}")
    if hedge_after is not None and not hedge_after > 0:
        raise InvalidInputError(f"hedge_after must be more than 0 seconds, got {hedge_after!r}")
    check_tags(tags or {})
    return CallOptions(
        models=chain,
        timeout=timeout,
        step=step,
        user_id=user_id,
        run_id=run_id,
        tags=tags or {},
        fallback_on_content_policy=fallback_on_content_policy,
        hedge_after=hedge_after,
        limits=profile.limits,
    )


def _no_model(profile: Profile) -> str:
    if profile is NO_PROFILE:
        return "no model: name one in the call, in LLMClient(model=...), or set LLM_COMMON_MODEL"
    return (
        f"no model: profile {profile.name!r} has none, and neither have the call and the client. Give it a chain in "
        f"llm_common.toml ([profiles.{profile.name}] models = [...]), name one in the call, or set LLM_COMMON_MODEL"
    )
