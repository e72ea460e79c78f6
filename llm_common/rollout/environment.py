"""What the environment and the code of a host say of a flag. Pure."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_common.exceptions import ConfigurationError
from llm_common.rollout.assignment import checked_percentage

__all__ = ["HostSetting", "host_setting", "variables_of"]

_log = logging.getLogger("llm_common.rollout")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_MOST = 100


@dataclass(frozen=True, slots=True)
class HostSetting:
    """`killed`: off, whatever the database says. `source` says where the percentage comes from: a variable, or code."""

    killed: bool
    percentage: int
    source: str = field(default="code", compare=False)


def variables_of(flag: str) -> tuple[str, ...]:
    """The variables that are looked for, the first that is set wins. `new-pipeline` reads `USE_NEW_PIPELINE`, ..."""
    name = re.sub(r"\W", "_", flag).upper()
    return f"USE_{name}_PERCENTAGE", f"USE_{name}", f"ENABLE_{name}", f"{name}_PERCENTAGE", name


def host_setting(
    flag: str,
    percentage: int | None,
    environ: Mapping[str, str],
    *,
    switch_variable: str | None = None,
    percentage_variable: str | None = None,
    strict: bool = False,
) -> HostSetting:
    """Read the first of `variables_of(flag)` that is set, or those that are named; see `Rollout` for who wins.

    A value that cannot be read is one warning and "off": a typing error must not take a backend down. With `strict` it
    is a `ConfigurationError` that names the variable.
    """
    in_code = 0 if percentage is None else checked_percentage(percentage)
    *named, own = _pairs(flag)
    if switch_variable or percentage_variable:
        named, own = [], (percentage_variable or own[0], switch_variable or own[1])
    for share, switch in (*named, own):
        found = {name: environ[name].strip() for name in (share, switch) if name and environ.get(name, "").strip()}
        if found:
            break
    else:
        return HostSetting(killed=False, percentage=in_code)
    try:
        killed = switch in found and not _is_on(switch, found[switch])
        in_force = _share(share, found[share]) if share in found else percentage
    except ConfigurationError as error:
        if strict:
            raise
        _log.warning("rollout %s is off: %s", flag, error)
        return HostSetting(killed=True, percentage=in_code, source=next(iter(found)))
    return HostSetting(killed, _MOST * (not killed) if in_force is None else in_force, next(iter(found)))


def _pairs(flag: str) -> tuple[tuple[str, str], ...]:
    """Percentage and switch: one that is off kills, also where the percentage beside it is read first."""
    use_share, use, enable, share, own = variables_of(flag)
    return (use_share, use), ("", enable), (share, own)


def _share(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and int(text) <= _MOST):
        raise ConfigurationError(f"{name}={text!r:.60} is not a whole number from 0 to 100")
    return int(text)


def _is_on(name: str, text: str) -> bool:
    value = text.strip().lower()
    if value not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"{name}={text!r:.60} is not a switch; use true or false")
    return value in _TRUE
