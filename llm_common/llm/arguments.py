"""The arguments of a call over those of its profile, checked: what is asked, and what the call says about itself."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, cast

from llm_common._runtime.values import value
from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.llm.candidates import Messages, Question
from llm_common.llm.limits.rules import Limits
from llm_common.llm.profile import NO_PROFILE, Profile
from llm_common.llm.structured.schema import output_spec
from llm_common.models import check_tags

__all__ = ["CallOptions", "options_of", "question_of"]

_ROLES = ("system", "developer", "user", "assistant", "tool")


@value
class CallOptions:
    """What one call says about itself, apart from what it asks."""

    models: tuple[str, ...]
    timeout: float
    step: str | None = None
    user_id: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    fallback_on_content_policy: bool = False
    hedge_after: float | None = None
    #: Limits of this call's kind on top of the client's, by a key of their own: `{"profile:fast": Limits(...)}`.
    limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])


def question_of(
    messages: str | Sequence[Mapping[str, Any]],
    *,
    response_model: Any = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    profile: Profile | None = None,
) -> Question:
    """What the caller says wins over the profile. Raises `InvalidInputError` for what cannot be asked."""
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    if extra and "hedge_after" in extra:
        raise InvalidInputError("hedge_after is for complete() and chat(); two streams at once cannot be told apart")
    if response_model is not None and extra and "response_format" in extra:
        raise InvalidInputError("give response_model= or response_format=, not both: the model makes the format")
    profile = profile or NO_PROFILE
    return Question(
        messages=_checked(messages),
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
    profile: Profile | None,
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
    profile = profile or NO_PROFILE
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


def _checked(messages: str | Sequence[Mapping[str, Any]]) -> Messages:
    """Messages in OpenAI's shape; a plain string is one message of the user's. Raises `InvalidInputError`."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not messages:
        raise InvalidInputError("messages is empty; give at least one")
    for position, message in enumerate(messages):
        _check(position, message)
    return tuple(messages)


def _check(position: int, message: Any) -> None:
    if not isinstance(message, (dict, Mapping)):  # a dict is known at once, by its type
        raise InvalidInputError(
            f"messages[{position}] must be a dict with role and content, not {type(message).__name__}"
        )
    fields = cast("Mapping[str, Any]", message)
    role, content = fields.get("role"), fields.get("content")
    if role not in _ROLES:
        raise InvalidInputError(f"messages[{position}] has role {role!r}; use one of {', '.join(_ROLES)}")
    if not isinstance(content, (str, list)) and not (content is None and fields.get("tool_calls")):
        raise InvalidInputError(f"messages[{position}] ({role}) has no content; give text or a list of parts")
    if isinstance(content, str) and not content.strip() and role == "user":
        raise InvalidInputError(f"messages[{position}] (user) is blank; say something")
