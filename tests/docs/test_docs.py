"""The generated pages of `docs/` are what the code and its tests say today."""

import re
import subprocess
import sys

import pytest

from llm_common.cli.app import app
from tests.docs.pages import DOCS, INDEX, generated_pages
from tests.faults.llm.fault_matrix import ROWS

PAGES = generated_pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str):
    """The committed page is the one that the generator writes."""
    path = DOCS / name
    committed = path.read_text() if path.exists() else ""
    assert committed == PAGES[name], f"docs/{name} is not current: run `make docs` and commit what it writes"


def test_the_command_line_is_the_one_that_is_installed():
    """The page has what `llm-common --help` prints where nothing colours it."""
    done = subprocess.run(
        [sys.executable, "-c", "from llm_common.cli import main; main()", "costs", "--help"],
        env={"TYPER_USE_RICH": "0", "COLUMNS": "102", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    printed = " ".join(done.stdout.replace("python -c", "llm-common").split())
    page = " ".join(PAGES["cli.md"].split())
    assert printed.split("Options:")[1].strip() in page
    assert {group.name for group in app.registered_groups} <= set(re.findall(r"## llm-common (\S+)", PAGES["cli.md"]))


def test_every_fault_is_in_the_table():
    """Each row of the matrix is there, with each way of asking."""
    lines = PAGES["faults.md"].splitlines()
    for row in ROWS:
        told = [line for line in lines if line.startswith(f"| {row.name} |")]
        asked = {way for line in told for way in line.split(" | ")[1].split(", ")}
        assert asked in ({"each"}, {"complete", "structured", "stream"})


def test_links_between_the_pages_lead_somewhere():
    """No page links to a file that is not there."""
    for name in [*PAGES, *(path.name for path in DOCS.glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / name).read_text()):
            assert (DOCS / target).exists(), f"docs/{name} links to {target}"
    assert (DOCS / INDEX).exists()
