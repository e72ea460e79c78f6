"""One decision of a flag for one unit, and the sentence that says why. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import mmh3

from llm_common.db.functions.rollout import RolloutFlag
from llm_common.exceptions import InvalidInputError
from llm_common.rollout.assignment import Unit, bucket
from llm_common.rollout.constraints import Constraint, Context
from llm_common.rollout.environment import HostSetting

__all__ = ["Decision", "Variant", "checked_context", "checked_variants", "decide", "pick_variant", "unit_text"]

_LONGEST_UNIT = 1_000
#: Unleash's, so that who is in a flag says nothing about which of its variants he gets.
_VARIANT_SEED = 86_028_157


@dataclass(frozen=True, slots=True)
class Variant:
    """One of several new paths. Of all units that are in, `weight` of the sum of all weights get it."""

    name: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a unit is in, and why: `detail` names what decided."""

    is_in: bool
    reason: Literal["killed", "unknown", "rolled_back", "paused", "constraint", "no_unit", "percentage"]
    percentage: int = 0
    detail: str = ""

    def sentence(self, flag: str, unit: str) -> str:
        who = f"unit {unit!r:.100}" if unit else "nobody"
        path = f"{flag}: {who} gets the {'new' if self.is_in else 'old'} path"
        return f"{path}, because {self.detail}."


def decide(
    flag: RolloutFlag | None,
    host: HostSetting,
    group: str,
    unit: str,
    constraints: Sequence[Constraint] = (),
    context: Context | None = None,
) -> Decision:
    """The strongest reason first. `flag` is None while the database was never reached."""
    off = _switched_off(flag, host)
    if off is not None or flag is None:
        return off or Decision(False, "unknown", 0, "its database was never reached, and it may have been rolled back")
    percentage = host.percentage if flag.percentage is None else flag.percentage
    for constraint in constraints:
        if not constraint.holds(context or {}):
            broken = f"the constraint on {constraint.field!r:.100} does not hold"
            return Decision(False, "constraint", percentage, broken)
    if not unit:
        return Decision(False, "no_unit", percentage, "no unit was given")
    number = bucket(group, unit)
    source = "the database" if flag.percentage is not None else host.source
    detail = f"its bucket {number} is {'within' if number <= percentage else 'above'} the {percentage} % of {source}"
    return Decision(number <= percentage, "percentage", percentage, detail)


def _switched_off(flag: RolloutFlag | None, host: HostSetting) -> Decision | None:
    if host.killed:
        return Decision(False, "killed", 0, f"{host.source} switches it off")
    if flag is not None and flag.rolled_back_at is not None:
        since = flag.rolled_back_at.isoformat(timespec="seconds")
        return Decision(False, "rolled_back", 0, f"it was rolled back at {since}: {flag.rollback_reason}")
    if flag is not None and not flag.enabled:
        return Decision(False, "paused", 0, "it is paused")
    return None


def unit_text(unit: Unit) -> str:
    """The unit as it is hashed; "" for nobody. Raises `InvalidInputError` for one of more than 1000 characters."""
    text = "" if unit is None else str(unit)
    if len(text) > _LONGEST_UNIT:
        raise InvalidInputError(f"a unit has at most {_LONGEST_UNIT} characters, not {len(text)}; pass an id")
    return text


def checked_context(context: Any) -> Context | None:
    if context is not None and not isinstance(context, Mapping):
        raise InvalidInputError(f"a context is a mapping such as {{'plan': 'pro'}}, not {type(context).__name__}")
    return cast("Context | None", context)


def checked_variants(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names) or not all(names):
        raise InvalidInputError(f"variants need different names, not {names!r:.200}")
    if any(variant.weight < 0 for variant in variants) or (variants and not any(one.weight for one in variants)):
        raise InvalidInputError("the weights of variants are 0 or more, and one of them is more than 0")
    return tuple(variants)


def pick_variant(variants: Sequence[Variant], group: str, unit: str) -> str:
    """The name of the variant of a unit that is in: the same in every process and language, as Unleash picks it."""
    total = sum(variant.weight for variant in variants)
    number = mmh3.mmh3_32_uintdigest(f"{group}:{unit}".encode(errors="surrogatepass"), _VARIANT_SEED) % total + 1
    for variant in variants:
        number -= variant.weight
        if number <= 0:
            return variant.name
    raise AssertionError("the weights add up to the total")
