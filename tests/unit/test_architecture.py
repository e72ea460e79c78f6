"""The rooms of the package: imports go one way, in no circle, and no core system knows an optional one.

Lazy imports and those for type checkers count: whoever reads a module has to know what they lead to.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import llm_common

PACKAGE = Path(llm_common.__file__).parent

#: From the bottom up. Rooms of one line know nothing of each other.
ORDER = (
    ("usage",),
    ("exceptions",),
    ("money",),
    ("_runtime", "_text"),
    ("models",),
    ("settings",),
    ("db",),
    ("ledger",),
    ("llm", "search", "memory", "rollout", "prompts", "documents"),
    ("cost_tracker", "response_cache", "shared_limits", "profiles"),
    ("llm_client", "web_search", "conversation_memory", "conversations"),
    ("legislation_search", "finance_search"),
    ("pipeline", "orchestrator", "retrieval"),
    ("datasets",),
    ("training",),
    ("dashboard", "integrations"),
    ("cli",),
)
#: Systems that are extras: nothing of the core imports them, and they know none of each other but these.
OPTIONAL = ("orchestrator", "prompts", "documents", "retrieval", "datasets", "training", "dashboard", "integrations")
ALLOWED = {
    ("datasets", "documents"),
    ("retrieval", "documents"),
    ("training", "datasets"),
}
#: Beside the order: for tests of hosts, and old names of hosts' own modules.
ASIDE = ("testing", "deprecation", "")


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def arrows() -> dict[str, set[str]]:
    known = modules()
    return {name: {other for other in imports(path, known) if other != name} for name, path in known.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


MODULES = arrows()
ROOMS = {
    (room(source), room(target), source, target)
    for source, targets in MODULES.items()
    for target in targets
    if room(source) != room(target)
}
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def test_every_room_has_its_place():
    """Whoever adds a room says where it stands."""
    assert {room(module) for module in MODULES} - set(LEVEL) - set(ASIDE) == set()


def test_imports_go_one_way():
    """No arrow runs up or sideways."""
    against = [
        f"{source} -> {target}"
        for here, there, source, target in ROOMS
        if here not in ASIDE and there not in ASIDE and LEVEL[there] >= LEVEL[here] and (here, there) not in ALLOWED
    ]
    assert against == []


def test_no_modules_import_each_other_in_a_circle():
    """Not even lazily, and not even for types."""
    try:
        TopologicalSorter(MODULES).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_core_knows_no_optional_system():
    """A plain install has everything that the core imports; optional systems know each other only as is said."""
    wrong = [
        f"{source} -> {target}"
        for here, there, source, target in ROOMS
        if there in OPTIONAL
        and here != "cli"
        and (here, there) not in ALLOWED
        and here not in ("dashboard", "integrations")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(LEVEL.keys() - {"_runtime", "_text"} | {"testing"}))
def test_one_dot_is_public(name: str):
    """A module that hosts import names all that it offers in `__all__`, and offers nothing else."""
    path = PACKAGE / f"{name}.py"
    path = path if path.exists() else PACKAGE / name / "__init__.py"
    if not path.exists():
        pytest.skip("not built yet")
    tree = ast.parse(path.read_text())
    named = {
        literal
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for literal in ast.literal_eval(node.value)
    }
    defined = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    public = {name for name in defined if not name.startswith("_")}
    assert public - named == set(), "defined, and neither in __all__ nor private"


def test_no_module_holds_more_than_one_concept():
    """A module of more than 400 lines is two, and a function of more than 60 is several."""
    assert [name for name, path in modules().items() if len(path.read_text().splitlines()) > 400] == []
    long = [
        f"{name}.{node.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno > 60
    ]
    assert long == []
