"""YAML, read as strictly as TOML is: plain values only, and no key twice."""

from collections.abc import Hashable
from typing import Any, cast

import yaml

__all__ = ["load"]


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001 (PyYAML's signature)
        seen = set[str]()
        for key, _ in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            # Keys that are no scalars are refused below; `<<` may stand there twice.
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key stands there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """The document's value. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
