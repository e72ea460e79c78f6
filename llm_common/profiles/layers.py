"""Settings in layers, each over the one before, and each value with the place that it is from. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

__all__ = ["Setting", "Tree", "flat", "laid_over", "plain", "tree_of"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and the place that says so."""

    value: Any
    origin: str


Tree: TypeAlias = Mapping[str, "Setting | Tree"]


def tree_of(value: Any, origin: str) -> "Setting | Tree":
    """Tables become trees, so that a layer can change a part of one. Lists are one value."""
    if isinstance(value, Mapping):
        return {key: tree_of(entry, origin) for key, entry in cast("Mapping[str, Any]", value).items()}
    return Setting(value, origin)


def laid_over(base: Tree, over: Tree) -> Tree:
    """`base` with what `over` says differently, table by table."""
    merged = dict(base)
    for key, new in over.items():
        old = merged.get(key)
        merged[key] = laid_over(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new
    return merged


def plain(tree: Tree) -> dict[str, Any]:
    """The values alone."""
    return {key: entry.value if isinstance(entry, Setting) else plain(entry) for key, entry in tree.items()}


def flat(tree: Tree) -> dict[str, Setting]:
    """Each value by its key, with dots into tables: `extra.top_p`."""
    return dict(_flat(tree, ""))


def _flat(tree: Tree, above: str) -> Iterator[tuple[str, Setting]]:
    for key, entry in tree.items():
        if isinstance(entry, Setting):
            yield above + key, entry
        else:
            yield from _flat(entry, f"{above}{key}.")
