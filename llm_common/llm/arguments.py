"""The arguments of a call: which there are, what is refused, and how they lie over those of a profile. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final, Literal, TypedDict, cast

from llm_common._runtime.values import value
from llm_common.exceptions import ConfigurationError, InvalidInputError, UnknownArgumentError
from llm_common.ledger.protocol import Ledger
from llm_common.llm.candidates import Messages, Question
from llm_common.llm.limits.rules import Limits
from llm_common.llm.profile import NO_PROFILE, Profile
from llm_common.llm.structured.schema import output_spec
from llm_common.models import check_tags

__all__ = [
    "CallArguments",
    "CallOptions",
    "CallRequest",
    "ChatArguments",
    "CompleteArguments",
    "EmbedArguments",
    "Method",
    "StreamArguments",
    "embedding_extra",
    "options_of",
    "question_of",
    "refuse_unknown",
]

_ROLES = ("system", "developer", "user", "assistant", "tool")


class ProviderArguments(TypedDict, total=False):
    """What goes to the provider as it is. Whatever a provider takes beyond these goes into `extra`."""

    audio: Mapping[str, Any]
    extra_body: Mapping[str, Any]
    extra_headers: Mapping[str, str]
    frequency_penalty: float | None
    function_call: Any
    functions: Sequence[Mapping[str, Any]]
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    metadata: Mapping[str, str] | None
    modalities: Sequence[str]
    n: int | None
    parallel_tool_calls: bool
    prediction: Mapping[str, Any]
    presence_penalty: float | None
    prompt_cache_key: str
    provider: Mapping[str, Any]
    reasoning: Mapping[str, Any]
    reasoning_effort: str | None
    response_format: Mapping[str, Any] | None
    safety_identifier: str
    seed: int | None
    service_tier: str | None
    stop: str | Sequence[str] | None
    store: bool | None
    stream_options: Mapping[str, Any] | None
    thinking: Mapping[str, Any] | None
    top_k: int | None
    top_logprobs: int | None
    top_p: float | None
    user: str
    verbosity: str
    web_search_options: Mapping[str, Any]


class CallArguments(ProviderArguments, total=False):
    """What `complete`, `chat` and `stream` take by name. `complete` says what each is."""

    profile: str | Profile | None
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str | Mapping[str, Any] | None
    timeout: float | None
    step: str | None
    user_id: str | None
    run_id: str | None
    tags: Mapping[str, str] | None
    ledger: Ledger | None
    fallback_on_content_policy: bool
    extra: Mapping[str, Any] | None


class ChatArguments(CallArguments, total=False):
    """What `chat` takes by name, beside what it takes by position."""

    hedge_after: float | None
    cache: bool | None


class CompleteArguments(ChatArguments, total=False):
    """What `complete` and `complete_many` take."""

    models: Sequence[str]
    temperature: float | None
    max_tokens: int | None


class StreamArguments(CallArguments, total=False):
    """What `stream` takes."""

    models: Sequence[str]
    temperature: float | None
    max_tokens: int | None
    first_token_timeout: float | None
    stall_timeout: float | None


class EmbedArguments(TypedDict, total=False):
    """What `embed` takes by name. `embed` says what each is."""

    dimensions: int | None
    batch_size: int | None
    concurrency: int
    timeout: float | None
    ledger: Ledger | None
    step: str | None
    user_id: str | None
    run_id: str | None
    tags: Mapping[str, str] | None
    extra: Mapping[str, Any] | None
    encoding_format: str
    input_type: str
    user: str


_PROVIDER: Final = frozenset(ProviderArguments.__annotations__)
_OWN_OF_EMBED: Final = frozenset(EmbedArguments.__annotations__) - {"encoding_format", "input_type", "user"}
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "complete": frozenset(CompleteArguments.__annotations__),
    "stream": frozenset(StreamArguments.__annotations__),
    "embed": frozenset(EmbedArguments.__annotations__),
}
_NAMED: Final = ("model", "response_model")

#: Arguments of other libraries' calls, and where they belong here.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "api_base": "LLMClient(base_url=...), or the provider's variable such as OPENAI_BASE_URL",
    "api_key": "LLMClient(api_key=...), or the provider's variable such as OPENAI_API_KEY",
    "api_version": "the base URL: LLMClient(base_url=...)",
    "base_url": "LLMClient(base_url=...), or the provider's variable such as OPENAI_BASE_URL",
    "caching": "LLMClient(response_cache=...)",
    "client": "LLMClient itself, which keeps the connections",
    "custom_llm_provider": "the model's name, as in 'anthropic/claude-haiku-5-5', or LLMClient(provider=...)",
    "drop_params": "nothing: leave out what the model does not take",
    "fallbacks": "models=[...], asked in turn",
    "headers": "extra_headers={...}",
    "max_retries": "LLMClient(retry=RetryPolicy(...))",
    "mock_response": "llm_common.testing.FakeProvider",
    "num_retries": "LLMClient(retry=RetryPolicy(...))",
    "organization": "extra_headers={'OpenAI-Organization': ...}",
    "request_timeout": "timeout=",
    "stream": "llm.stream(...)",
}


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


@value
class CallRequest:
    """A call as it was asked for: what goes to a model, and what the call says about itself."""

    question: Question
    options: CallOptions


#: Whose arguments are meant.
Method = Literal["complete", "stream", "embed"]


def refuse_unknown(method: Method, arguments: Mapping[str, object]) -> None:
    """Raises `UnknownArgumentError` for what `method` ("complete", "stream", "embed") does not take."""
    known = _KNOWN[method]
    extra = cast("Mapping[str, object]", arguments.get("extra") or {})
    if arguments.keys() <= known and _ELSEWHERE.keys().isdisjoint(extra):
        return
    name = min({*(arguments.keys() - known), *(_ELSEWHERE.keys() & extra.keys())})
    if name == "hedge_after":
        raise InvalidInputError("hedge_after is for complete() and chat(); two streams at once cannot be told apart")
    if name in _ELSEWHERE:
        raise UnknownArgumentError(f"{method}() takes no {name}=: it belongs to {_ELSEWHERE[name]}. Nothing was sent.")
    from rapidfuzz.process import extractOne

    nearest = extractOne(name, (*known, *_NAMED), score_cutoff=70)
    meant = f" Did you mean {nearest[0]}=?" if nearest else ""
    raise UnknownArgumentError(
        f"{method}() takes no {name}=.{meant} What only the provider knows goes into extra={{{name!r}: ...}}. "
        "Nothing was sent."
    )


def provider_arguments(arguments: Mapping[str, Any], own: frozenset[str]) -> Mapping[str, Any]:
    """What of a call's arguments goes to the provider: those that are not our `own`, and `extra` on top."""
    given = {name: argument for name, argument in arguments.items() if name not in own}
    extra = arguments.get("extra")
    return {**given, **extra} if extra else given


_OWN: Final = (_KNOWN["complete"] | _KNOWN["stream"]) - _PROVIDER


def question_of(
    messages: str | Sequence[Mapping[str, Any]],
    response_model: Any,
    arguments: Mapping[str, Any],
    profile: Profile | None,
) -> Question:
    """What the caller says wins over the profile. Raises `InvalidInputError` for what cannot be asked."""
    extra = provider_arguments(arguments, _OWN)
    max_tokens = arguments.get("max_tokens") or extra.get("max_completion_tokens")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    if response_model is not None and "response_format" in extra:
        raise InvalidInputError("give response_model= or response_format=, not both: the model makes the format")
    profile = profile or NO_PROFILE
    return Question(
        messages=_checked(messages),
        output=None if response_model is None else output_spec(response_model),
        temperature=profile.temperature_for(arguments.get("temperature")),
        max_tokens=profile.max_tokens if max_tokens is None else max_tokens,
        tools=tuple(arguments.get("tools") or ()),
        tool_choice=arguments.get("tool_choice"),
        extra=profile.extra_for(extra),
    )


def options_of(
    model: str | None,
    arguments: Mapping[str, Any],
    *,
    profile: Profile | None,
    default_model: str | None,
    default_timeout: float,
) -> CallOptions:
    """The call's models and seconds, else the profile's, else the client's.

    Raises `InvalidInputError`, or `ConfigurationError` where no model is named anywhere.
    """
    profile = profile or NO_PROFILE
    timeout = arguments.get("timeout")
    if timeout is None:
        timeout = profile.timeout or default_timeout
    if not timeout > 0:
        raise InvalidInputError(f"timeout must be more than 0 seconds, got {timeout!r}")
    hedge_after = arguments.get("hedge_after")
    if hedge_after is not None and not hedge_after > 0:
        raise InvalidInputError(f"hedge_after must be more than 0 seconds, got {hedge_after!r}")
    tags: Mapping[str, str] = arguments.get("tags") or {}
    if tags:
        check_tags(tags)
    return CallOptions(
        models=_models_of(model, arguments.get("models") or (), profile, default_model),
        timeout=timeout,
        step=arguments.get("step"),
        user_id=arguments.get("user_id"),
        run_id=arguments.get("run_id"),
        tags=tags,
        fallback_on_content_policy=bool(arguments.get("fallback_on_content_policy")),
        hedge_after=hedge_after,
        limits=profile.limits,
    )


def embedding_extra(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of `embed`'s arguments goes to the provider."""
    return provider_arguments(arguments, _OWN_OF_EMBED)


def _models_of(
    model: str | None, models: Sequence[str], profile: Profile, default_model: str | None
) -> tuple[str, ...]:
    if isinstance(models, str):
        raise InvalidInputError(f"models must be a list of names; for one model use model={models!r}")
    if model is not None and models:
        raise InvalidInputError("give model= or models=, not both")
    if model:
        return (model,)
    if chain := tuple(models) or profile.models:
        return chain
    if not default_model:
        raise ConfigurationError(_no_model(profile))
    return (default_model,)


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
