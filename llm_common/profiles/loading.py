"""Built-in profiles, the file, its overlay and the environment → profiles, or one error with all that is wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from llm_common.exceptions import ConfigurationError
from llm_common.llm.profile import BUILT_IN, Profile
from llm_common.llm.profile_keys import near
from llm_common.profiles.files import read, refuse_secrets
from llm_common.profiles.layers import Setting, Tree, flat, laid_over, plain
from llm_common.profiles.sections import environment_layer, file_layer, set_in

__all__ = ["Loaded", "load"]

_TABLES = ("profiles", "overlays")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was read at one time. `settings` has each profile's values with the place that each is from."""

    file: Path | None
    overlay: str | None
    overlays: tuple[str, ...]
    profiles: Mapping[str, Profile]
    settings: Mapping[str, Mapping[str, Setting]]


def load(file: Path | None, overlay: str | None, environ: Mapping[str, str]) -> Loaded:
    """Read everything once. `overlay` is the name that was asked for; None: what `LLM_COMMON_ENV` names, if it does.

    Overlays that are not chosen are checked too: what is wrong with production shows before it is deployed.
    Raises `ConfigurationError` with a line for each thing that is wrong.
    """
    try:
        return _load(file, overlay, environ)
    except RecursionError:
        raise ConfigurationError(f"{file} is nested too deeply, or a part of it is in itself") from None


def _load(file: Path | None, overlay: str | None, environ: Mapping[str, str]) -> Loaded:
    tree, overlays, problems = _built_in(), dict[str, Tree](), list[str]()
    if file is not None:
        tree, overlays, problems = _from_file(file, tree)
    chosen = overlay or environ.get("LLM_COMMON_ENV", "").strip() or None
    if chosen is not None and chosen in overlays:
        tree = laid_over(tree, overlays[chosen])
    elif chosen is not None:
        problems.append(_no_overlay(chosen, by_argument=overlay is not None, file=file, overlays=overlays))
    from_environment, wrong = environment_layer(environ, tree)
    problems += wrong
    if problems:
        raise ConfigurationError("\n".join(problems))
    return _loaded(file, chosen, tuple(overlays), laid_over(tree, from_environment))


def _built_in() -> Tree:
    return {
        name: {key: Setting(value, "built-in") for key, value in set_in(profile).items()}
        for name, profile in BUILT_IN.items()
    }


def _from_file(file: Path, below: Tree) -> tuple[Tree, dict[str, Tree], list[str]]:
    """The base over what is `below`, each overlay, and what is wrong."""
    content = read(file)
    refuse_secrets(content, file)
    problems = [
        f"{file}: [{key}] is no table that is known.{near(key, _TABLES)} There are {' and '.join(_TABLES)}"
        for key in content
        if key not in _TABLES
    ]
    base, wrong = file_layer(content.get("profiles", {}), file, "profiles", None)
    problems += wrong
    tree, overlays = laid_over(below, base), dict[str, Tree]()
    for name, sections in _tables(content.get("overlays", {}), file, problems):
        overlays[name], wrong = file_layer(sections, file, f"overlays.{name}.profiles", tree)
        problems += wrong
    return tree, overlays, problems


def _tables(overlays: Any, file: Path, problems: list[str]) -> Iterable[tuple[str, Any]]:
    """Each overlay's `profiles`."""
    if not isinstance(overlays, Mapping):
        problems.append(f"{file}: overlays must be a table of overlays, as [overlays.production.profiles.fast]")
        return
    for key, overlay in cast("Mapping[str, Any]", overlays).items():
        if not isinstance(overlay, Mapping):
            problems.append(f"{file}: [overlays.{key}] must be a table, as [overlays.{key}.profiles.fast]")
            continue
        tables = cast("Mapping[str, Any]", overlay)
        odd = [table for table in tables if table != "profiles"]
        if odd:
            problems.append(f"{file}: [overlays.{key}.{odd[0]}] is not known; write [overlays.{key}.profiles.NAME]")
        yield key, tables.get("profiles", {})


def _no_overlay(chosen: str, *, by_argument: bool, file: Path | None, overlays: Mapping[str, Tree]) -> str:
    told = f"overlay={chosen!r}" if by_argument else f"LLM_COMMON_ENV={chosen!r}"
    if file is None:
        return f"{told} chooses an overlay, and there is no configuration file; add llm_common.toml, or choose none"
    has = f"it has {', '.join(overlays)}" if overlays else "it has none"
    advice = f"for one that changes nothing write an empty [overlays.{chosen}]"
    return f"{told} names no overlay of {file}: {has}.{near(chosen, overlays)} Otherwise, {advice}"


def _loaded(file: Path | None, overlay: str | None, overlays: tuple[str, ...], tree: Tree) -> Loaded:
    sections = {name: section for name, section in tree.items() if not isinstance(section, Setting)}
    return Loaded(
        file=file,
        overlay=overlay,
        overlays=overlays,
        profiles={name: _profile(name, plain(section)) for name, section in sections.items()},
        settings={name: flat(section) for name, section in sections.items()},
    )


def _profile(name: str, values: dict[str, Any]) -> Profile:
    # YAML's null sets a value back to "not set".
    return Profile(name=name, **{key: value for key, value in values.items() if value is not None})
