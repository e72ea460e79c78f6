"""The generated pages of `docs/`, and its index."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.docs.commands import commands_page
from tests.docs.errors import errors_page
from tests.docs.faults import faults_page
from tests.docs.models import models_page

__all__ = ["DOCS", "INDEX", "generated_pages"]

DOCS = Path(__file__).parents[2] / "docs"
INDEX = "README.md"
_ABOUT = """# Documentation

Begin with the [README](../README.md) of the repository; how to change something is in
[CONTRIBUTING](../CONTRIBUTING.md). These pages are for looking things up:

"""
_GENERATED = (
    "\nThe pages marked * are written by `make docs` from the code and its tests, and a test keeps them current.\n"
)


def generated_pages() -> dict[str, str]:
    """File name → text, the index last."""
    pages = {
        "models.md": models_page(),
        "errors.md": errors_page(),
        "faults.md": faults_page(),
        "cli.md": commands_page(),
    }
    written_by_hand = {
        path.name: path.read_text() for path in sorted(DOCS.glob("*.md")) if path.name not in {*pages, INDEX}
    }
    return {**pages, INDEX: _index(pages, written_by_hand)}


def _index(pages: Mapping[str, str], written_by_hand: Mapping[str, str]) -> str:
    lines = [f"- [{_title(text)}]({name}) *\n" for name, text in pages.items()]
    lines += [f"- [{_title(text)}]({name})\n" for name, text in written_by_hand.items()]
    return _ABOUT + "".join(lines) + _GENERATED


def _title(text: str) -> str:
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1] if found else "untitled"
