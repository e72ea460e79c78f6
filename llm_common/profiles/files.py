"""The configuration file: found, read, and refused where it holds keys."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from llm_common._text.redaction import holds_key
from llm_common.exceptions import ConfigurationError

__all__ = ["NAMES", "FileState", "find", "read", "refuse_secrets", "secrets_in", "state_of"]

#: What is looked for in the working directory.
NAMES = ("llm_common.toml", "llm_common.yaml", "llm_common.yml")
_SECRET = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|secret|password|passwd|authorization|credentials?|(?:access|auth|bearer)[_-]?token)"
    r"(?:$|[_-])",
    re.IGNORECASE,
)

#: Changes whenever the file is another one, or another text: modification time, size, inode.
FileState = tuple[int, int, int]


def find(path: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    """`path`, else what `LLM_COMMON_CONFIG` names, else the one file of `NAMES` in `folder`; None without any.

    Raises `ConfigurationError` where a file that was named is not there, or the folder has two.
    """
    named, by = environ.get("LLM_COMMON_CONFIG", "").strip(), ""
    if path is None and named:
        path, by = Path(named).expanduser(), " (LLM_COMMON_CONFIG)"
    if path is not None:
        chosen = folder / path
        if chosen.suffix not in {Path(name).suffix for name in NAMES}:
            raise ConfigurationError(f"{chosen} is no .toml, .yaml or .yml file; rename it, or name another")
        if not chosen.is_file():
            raise ConfigurationError(f"the configuration file {chosen}{by} is not there; check the path")
        return chosen
    there = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(there) > 1:
        raise ConfigurationError(
            f"{' and '.join(file.name for file in there)} are both in {folder}; which one holds? "
            "Delete one, or name one in LLM_COMMON_CONFIG"
        )
    return there[0] if there else None


def state_of(path: Path) -> FileState:
    found = path.stat()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def read(path: Path) -> Mapping[str, Any]:
    """The file's tables. Raises `ConfigurationError` that names the line, and never quotes it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read: {error.strerror}"
        raise ConfigurationError(f"{path} {why}") from None
    content = _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path} must hold tables, such as profiles: and overlays:")
    return cast("Mapping[str, Any]", content)


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None


def _yaml(path: Path, text: str) -> Any:
    import yaml

    from llm_common.profiles.yaml_text import load

    try:
        return load(text) or {}
    except yaml.MarkedYAMLError as error:
        # Without the error's own words: they quote the line, and that may hold a key.
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ConfigurationError(f"{path} is not YAML: {error.problem}{where}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {type(error).__name__}") from None


def refuse_secrets(content: Mapping[str, Any], file: Path) -> None:
    """Raise `ConfigurationError` for a file with a key in it, by its place and without its value."""
    if found := next(secrets_in(content), None):
        raise ConfigurationError(
            f"{file}: {found} looks like a key, and such a file gets shared and committed. Take it out, replace it "
            "at the provider if it was ever committed, and set it in the environment (OPENAI_API_KEY, ...)"
        )


def secrets_in(value: Any, place: str = "") -> Iterator[str]:
    """The dotted places of what looks like a key, by name or by shape."""
    if isinstance(value, Mapping):
        for name, entry in cast("Mapping[object, Any]", value).items():
            below = f"{place}.{name}" if place else str(name)
            if holds_key(str(name)):
                yield f"a name in {place or 'the file'}"
            elif _SECRET.search(str(name)):
                yield below
            elif name != "models":  # a chain's names are checked elsewhere, and may look like anything
                yield from secrets_in(entry, below)
    elif isinstance(value, list | tuple):
        for entry in cast("list[Any]", value):
            yield from secrets_in(entry, place)
    elif isinstance(value, str) and holds_key(value):
        yield place
