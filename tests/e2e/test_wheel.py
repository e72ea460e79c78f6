"""What a wheel of this package has inside."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip wheel` would, with the build backend of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys, hatchling.build as backend; print(backend.build_wheel(sys.argv[1]))"
    finished = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return folder / finished.stdout.split()[-1]


@pytest.fixture(scope="module")
def files(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_module_is_inside_and_it_is_typed(files: set[str]) -> None:
    """All of the package's own modules, and the marker by which type checkers trust them."""
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llm_common").rglob("*.py")}
    assert {"llm_common/testing/server.py", "llm_common/testing/plugin.py", "llm_common/cli/app.py"} <= ours
    assert ours <= files
    assert "llm_common/py.typed" in files


def test_the_migrations_are_inside_word_for_word(wheel: Path) -> None:
    """`llm-common migrate` finds in the wheel exactly the files of the repository."""
    ours = {file.name: file.read_bytes() for file in (ROOT / "migrations").glob("*.sql")}
    with ZipFile(wheel) as archive:
        packed = {
            Path(name).name: archive.read(name)
            for name in archive.namelist()
            if name.startswith("llm_common/_migrations/") and name.endswith(".sql")
        }
    assert packed == ours
    assert ours


def test_nothing_else_is_inside(files: set[str]) -> None:
    """No tests, benchmarks, examples or byte code; one top-level package and its metadata."""
    assert {name.partition("/")[0] for name in files if ".dist-info/" not in name} == {"llm_common"}
    assert [name for name in files if "test_" in name or "conftest" in name or "__pycache__" in name] == []


def test_the_wheel_alone_is_a_working_package(wheel: Path, tmp_path: Path) -> None:
    """Without the repository beside it, the package imports from the wheel, and finds its migrations there."""
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import llm_common; from llm_common.db.migrate import migrations; "
        "print(llm_common.__file__, len(migrations()), llm_common.LLMClient.__name__)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    expected = len(list((ROOT / "migrations").glob("*.sql")))
    assert finished.stdout.split() == [str(tmp_path / "llm_common/__init__.py"), str(expected), "LLMClient"], (
        finished.stderr
    )
