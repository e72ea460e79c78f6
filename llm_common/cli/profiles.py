"""`llm-common profiles`: what holds for each profile, and which place each value is from."""

import json as json_text
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_common.cli.console import results, write_json
from llm_common.cli.options import AsJson
from llm_common.cli.tables import Column, show_table
from llm_common.settings import Settings

if TYPE_CHECKING:
    from llm_common.profiles.loading import Loaded

__all__ = ["profiles"]


def profiles(
    config: Annotated[
        Path | None,
        typer.Option(help="The file; default: LLM_COMMON_CONFIG, else the one in this folder.", show_default=False),
    ] = None,
    overlay: Annotated[
        str | None, typer.Option(help="One of its overlays; default: LLM_COMMON_ENV.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Show the profiles as calls get them: built in, from llm_common.toml or .yaml, its overlay, the environment."""
    from llm_common.profiles import Profiles

    loaded = Profiles(config, overlay=overlay).current()
    if json:
        write_json(_document(loaded))
    else:
        _show(loaded, Settings.from_environment().model)


def _document(loaded: "Loaded") -> dict[str, Any]:
    return {
        "file": None if loaded.file is None else str(loaded.file),
        "overlay": loaded.overlay,
        "overlays": loaded.overlays,
        "profiles": {name: asdict(profile) for name, profile in loaded.profiles.items()},
        "origins": {
            name: {key: setting.origin for key, setting in settings.items()}
            for name, settings in loaded.settings.items()
        },
    }


def _show(loaded: "Loaded", default_model: str | None) -> None:
    rows: list[Sequence[str]] = []
    for name, settings in loaded.settings.items():
        if not loaded.profiles[name].models:
            rows.append((name, "models", *_own_model(default_model)))
        rows += [(name, key, _text(setting.value), setting.origin) for key, setting in settings.items()]
    show_table([Column(name, fold=name in ("value", "from")) for name in ("profile", "setting", "value", "from")], rows)
    results.print()
    results.print(_places(loaded), markup=False)


def _own_model(default_model: str | None) -> tuple[str, str]:
    if default_model is None:
        return ("the client's own", "LLM_COMMON_MODEL is not set")
    return (default_model, "LLM_COMMON_MODEL")


def _places(loaded: "Loaded") -> str:
    if loaded.file is None:
        return "no configuration file: add llm_common.toml (or .yaml) here, or name one in LLM_COMMON_CONFIG"
    has = f" (there are {', '.join(loaded.overlays)})" if loaded.overlays else ""
    return f"file: {loaded.file}\noverlay: {loaded.overlay or 'none'}{has}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json_text.dumps(value, ensure_ascii=False).strip("[]").replace('"', "")
