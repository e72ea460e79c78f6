"""Environment → `Settings`: read once, validated, frozen. Keys never show in its repr."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from llm_common._text.redaction import Secret
from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.money import to_nano

__all__ = ["PROVIDER_KEYS", "PROVIDER_URLS", "Settings", "UnknownPricePolicy", "checked_url", "secrets_of"]

UnknownPricePolicy = Literal["block", "estimate"]

#: The names that the ecosystem uses, in the order in which they win.
PROVIDER_KEYS: Mapping[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "zai": ("ZAI_API_KEY", "Z_AI_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
}
PROVIDER_URLS: Mapping[str, tuple[str, ...]] = {
    "openai": ("OPENAI_BASE_URL",),
    "openrouter": ("OPENROUTER_API_BASE",),
    "zai": ("ZAI_API_BASE",),
    "anthropic": ("ANTHROPIC_BASE_URL",),
}
#: Variables whose values are nobody else's business, whoever reads them.
_TELLING_NAME = r"(?i)(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS)(?:_|$)"
_SIGN_IN = r"://[^/@:\s]*:(\S+)@"
#: A shorter value, such as "true" or "none", is no secret, and stands in many sentences.
_SHORTEST_SECRET = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says. Make it with `Settings.from_environment()`."""

    #: Provider name → key, for the providers that have one.
    keys: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    #: Provider name → base URL, where it is not the provider's own.
    urls: Mapping[str, str] = field(default_factory=dict[str, str])
    #: `DATABASE_URL`. None: nothing is recorded unless the host passes a database.
    database_url: str | None = field(default=None, repr=False)
    #: `LLM_COMMON_DATA_DIR`: where the embedded Postgres keeps its data. None: the platform's folder for user data.
    data_dir: Path | None = None
    #: `LLM_COMMON_PROJECT`: who pays; budgets and reports are per project.
    project: str = "default"
    #: `LLM_COMMON_MODEL`: the model where a call names none.
    model: str | None = None
    #: `LLM_COMMON_DAILY_BUDGET_USD`, `LLM_COMMON_MONTHLY_BUDGET_USD`.
    daily_budget_usd: Decimal | None = None
    monthly_budget_usd: Decimal | None = None
    #: `LLM_COMMON_UNKNOWN_PRICE`: `block` refuses a call whose price nobody knows while a budget binds,
    #: `estimate` charges a stated ceiling.
    unknown_price: UnknownPricePolicy = "block"

    #: The environment itself, for systems whose own modules say which variables are theirs.
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)

    def variable(self, *names: str) -> str | None:
        """The first of these variables that is set; None for none. An empty one is not set."""
        return next(filter(None, (_value(self.variables, name) for name in names)), None)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read `os.environ` (or what is given). Raises `ConfigurationError` that names the variable."""
        env = os.environ if environ is None else environ
        data_dir, database_url = _value(env, "LLM_COMMON_DATA_DIR"), _value(env, "DATABASE_URL")
        return cls(
            keys={provider: Secret(key) for provider, key in _by_provider(env, PROVIDER_KEYS).items()},
            urls=_urls(env, PROVIDER_URLS),
            variables=dict(env),
            database_url=database_url and Secret(database_url),
            data_dir=Path(data_dir).expanduser() if data_dir else None,
            project=_value(env, "LLM_COMMON_PROJECT") or "default",
            model=_value(env, "LLM_COMMON_MODEL"),
            daily_budget_usd=_dollars(env, "LLM_COMMON_DAILY_BUDGET_USD"),
            monthly_budget_usd=_dollars(env, "LLM_COMMON_MONTHLY_BUDGET_USD"),
            unknown_price=_policy(env, "LLM_COMMON_UNKNOWN_PRICE"),
        )


def _value(env: Mapping[str, str], name: str) -> str | None:
    # An empty variable is how shells and compose files say "not set".
    return env.get(name, "").strip() or None


def _by_provider(env: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    found = {provider: [_value(env, name) for name in candidates] for provider, candidates in names.items()}
    return {provider: next(filter(None, values)) for provider, values in found.items() if any(values)}


def _urls(env: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {
        provider: checked_url(url, " or ".join(names[provider])) for provider, url in _by_provider(env, names).items()
    }


def checked_url(url: str, name: str) -> str:
    """A base URL without the slash at its end. Raises `ConfigurationError` that calls it `name`, and never shows it:
    it may be a key in the wrong place, or hold a password.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{name} must be a URL that begins with http:// or https://")
    try:
        parts = urlsplit(url)
        signs_in, host = parts.username is not None or parts.password is not None, parts.hostname
    except ValueError:
        signs_in, host = False, None
    if not host or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{name} must be a URL with a host, such as https://llm.example.org/v1")
    if signs_in:
        raise ConfigurationError(
            f"{name} has a user or password in it, which no provider reads there; set the provider's key instead"
        )
    return url.rstrip("/")


def secrets_of(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The values of `os.environ` (or what is given) that no log and no terminal shows: keys, tokens, passwords."""
    env = os.environ if environ is None else environ
    named = [value.strip() for name, value in env.items() if re.search(_TELLING_NAME, name)]
    inside = [password for value in env.values() for password in re.findall(_SIGN_IN, value)]
    return tuple(secret for secret in (*named, *inside) if len(secret) >= _SHORTEST_SECRET)


def _dollars(env: Mapping[str, str], name: str) -> Decimal | None:
    text = _value(env, name)
    if text is None:
        return None
    try:
        to_nano(text, name=name)
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error
    return Decimal(text)


def _policy(env: Mapping[str, str], name: str) -> UnknownPricePolicy:
    text = _value(env, name) or "block"
    for policy in get_args(UnknownPricePolicy):
        if text == policy:
            return policy
    raise ConfigurationError(f"{name}={text!r} is not a policy; use block or estimate")
