"""A named way to ask: models, sampling, limits and times that go together."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from llm_common.llm.limits.rules import Limits
from llm_common.llm.profile_keys import KEYS, checked
from llm_common.models import DefaultEffort, DefaultTemperature

__all__ = ["BUILT_IN", "NO_PROFILE", "Profile", "ProfileSource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What calls with `profile=` take where they say nothing themselves. None (or empty) leaves it to the client.

    `models` is the fallback chain. `temperature` is from 0 to 2; `max_tokens` bounds an answer, thoughts included.
    A profile speaks for a whole chain, so its temperature is left out for a model that is known to take none, and
    `reasoning_effort` goes only to models that are known to reason; what must go in any case stands in `extra`,
    which goes to the provider as it is. Times are in seconds: `timeout` for a whole call, the other two for streams.
    `concurrency` requests are in flight at a time; per minute, at most so many requests and tokens (see `Limits`).
    Raises `InvalidInputError` for a value that cannot be right.
    """

    name: str
    models: tuple[str, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    timeout: float | None = None
    first_token_timeout: float | None = None
    stall_timeout: float | None = None
    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        for key in KEYS:
            value = getattr(self, key)
            if value is not None and value != ():
                object.__setattr__(self, key, checked(key, value))

    def temperature_for(self, own: float | None) -> float | None:
        """The call's own temperature, else the profile's. A profile without one leaves it to the model."""
        if self is NO_PROFILE or not (own is None or isinstance(own, DefaultTemperature)):
            return own
        return None if self.temperature is None else DefaultTemperature(self.temperature)

    @property
    def limits(self) -> Mapping[str, Limits]:
        """What binds every request made with this profile, beside the client's own limits."""
        if self is NO_PROFILE:
            return {}
        own = Limits(
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )
        return {} if own == Limits() else {f"profile {self.name}": own}

    def waits(self, first_token: float | None, stall: float | None) -> tuple[float | None, float | None]:
        """How long a stream may take to its first piece and between two: the call's own seconds, else the profile's."""
        return (
            self.first_token_timeout if first_token is None else first_token,
            self.stall_timeout if stall is None else stall,
        )

    def extra_for(self, own: Mapping[str, Any]) -> Mapping[str, Any]:
        """What goes to the provider beside the rest: the profile's, and the call's own on top."""
        if not self.extra and self.reasoning_effort is None:
            return own
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": DefaultEffort(self.reasoning_effort)}
        # A copy: what a wire may do to it must not reach the next call.
        return {**effort, **deepcopy(dict(self.extra)), **own}


class ProfileSource(Protocol):
    """Where profiles are found by their names: `llm_common.profiles.Profiles`, or a host's own."""

    def get(self, name: str) -> Profile: ...


#: What a call without `profile=` has.
NO_PROFILE: Final = Profile(name="")

#: They name no models, since those come and go: a host gives them chains, or they ask the client's own model.
BUILT_IN: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(name="thinking", reasoning_effort="high", timeout=600, first_token_timeout=300, stall_timeout=60),
            Profile(
                name="fast", temperature=0.3, max_tokens=4096, timeout=30, first_token_timeout=10, stall_timeout=10
            ),
            Profile(
                name="instruct", temperature=0, max_tokens=8192, timeout=120, first_token_timeout=60, stall_timeout=30
            ),
        )
    }
)
