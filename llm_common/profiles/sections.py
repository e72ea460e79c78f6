"""The sections of profiles in one place (file, overlay, environment) → a layer, and what is wrong with it. Pure."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from llm_common.exceptions import InvalidInputError
from llm_common.llm.profile import Profile
from llm_common.llm.profile_keys import KEYS, checked, near
from llm_common.profiles.files import secrets_in
from llm_common.profiles.layers import Tree, laid_over, tree_of

__all__ = ["PREFIX", "environment_layer", "file_layer", "set_in"]

#: `LLM_COMMON_PROFILES__FAST__TEMPERATURE=0.2`; parts of `extra` go deeper: `..__EXTRA__TOP_P=0.9`.
PREFIX = "LLM_COMMON_PROFILES__"
#: Each profile can be named in an environment variable, where `__` separates.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


def set_in(profile: Profile) -> dict[str, Any]:
    """The keys that the profile sets, with their values."""
    values = {key: getattr(profile, key) for key in KEYS}
    return {key: value for key, value in values.items() if value not in (None, (), {})}


def file_layer(sections: Any, file: Path, place: str, known: Tree | None) -> tuple[Tree, list[str]]:
    """The profiles below `place`, and a line for each thing that is wrong.

    `known` are the profiles that may be changed here; None: this is where profiles come to be.
    """
    if not isinstance(sections, Mapping):
        return {}, [f"{file}: {place} must be a table of profiles, as [{place}.fast]"]
    origin = file.name if known is None else f"{file.name} [{place.removesuffix('.profiles')}]"
    layer: dict[str, Tree] = {}
    problems: list[str] = []
    for name, section in cast("Mapping[object, Any]", sections).items():
        where = f"{file} [{place}.{name}]"
        if problem := _misnamed(name, known) or _no_table(section):
            problems.append(f"{where}{problem}")
            continue
        layer[str(name)], wrong = _section(section, where, origin)
        problems += wrong
    return layer, problems


def _misnamed(name: object, known: Tree | None) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return (
            " has a name that no environment variable can have; "
            "use lower-case letters, digits and single underscores, as code_review"
        )
    if known is not None and name not in known:
        return f" changes a profile that is not there.{near(name, known)} Begin it with [profiles.{name}]"
    return ""


def _no_table(section: Any) -> str:
    return "" if isinstance(section, Mapping) else " must be a table of settings, such as temperature = 0.2"


def _section(section: Mapping[Any, Any], where: str, origin: str) -> tuple[Tree, list[str]]:
    tree: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in section.items():
        try:
            tree[str(key)] = tree_of(_value(key, value), origin)
        except InvalidInputError as error:
            problems.append(f"{where} {error}")
    return tree, problems


def _value(key: object, value: Any) -> Any:
    if key not in KEYS or not isinstance(key, str):
        raise InvalidInputError(f"{key} is not known.{near(key, KEYS)} A profile has {', '.join(KEYS)}")
    return None if value is None else checked(key, value)


def environment_layer(environ: Mapping[str, str], known: Tree) -> tuple[Tree, list[str]]:
    """The variables that begin with `PREFIX`. An empty one is not set."""
    layer: Tree = {}
    problems: list[str] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        try:
            layer = laid_over(layer, _from_variable(variable, text.strip(), known))
        except InvalidInputError as error:
            problems.append(f"{variable}: {error}")
    return layer, problems


def _from_variable(variable: str, text: str, known: Tree) -> Tree:
    name, *path = variable.removeprefix(PREFIX).lower().split("__")
    if name not in known:
        raise InvalidInputError(
            f"there is no profile {name}.{near(name, known)} The environment changes profiles that are built in or in "
            f"the file: {', '.join(known)}"
        )
    if not all(path) or not path or (len(path) > 1 and path[0] != "extra"):
        raise InvalidInputError(f"it names no setting; write {PREFIX}{name.upper()}__TEMPERATURE=0.2")
    key, *below = path
    value = _nested(below, KEYS[key].from_text(text) if key in KEYS else text)
    if place := next(secrets_in({key: value}), None):
        raise InvalidInputError(
            f"{place} looks like a key, and what stands here goes into the body of each request. Set keys in "
            "OPENAI_API_KEY, OPENROUTER_API_KEY, ZAI_API_KEY or ANTHROPIC_API_KEY"
        )
    return {name: {key: tree_of(_value(key, value), variable)}}


def _nested(path: list[str], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
