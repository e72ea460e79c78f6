"""`llm-common compare` as its users meet it: as a process, on the scripted provider."""

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from llm_common.testing import FakeProvider
from tests.support.command_line import answering, llm_common

ROOT = Path(__file__).parents[2]
BILLS = ROOT / "examples/bills"
FIRST = "research=zai/glm-5.3-flash,generate=zai/glm-5.3,review=zai/glm-5.2"


@pytest.fixture
def compare(dsn: str, online: FakeProvider):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return llm_common("compare", *arguments, timeout=240, **answering(online, dsn))

    return run


def test_combinations_stand_next_to_each_other_and_are_paid_once(compare):
    """A table, who is who, and a plot; the second time the stored runs are compared and nothing is asked again."""
    arguments = (BILLS, "--jurisdiction", "California", "--models", FIRST, "--models", "openai/gpt-6-luna")
    first, again = compare(*arguments), compare(*arguments, "--json")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "A research zai/glm-5.3-flash, generate zai/glm-5.3, review zai/glm-5.2" in first.stdout
    assert "US dollars a run" in first.stdout
    assert "\x1b" not in first.stdout
    known = json.loads(again.stdout)
    bills = len(list(BILLS.glob("*.txt")))
    assert [(one["combination"], one["figures"]["runs"]) for one in known] == [("A", bills), ("B", bills)]
    assert all(one["figures"]["failed"] == 0 for one in known)
    assert f"${float(known[0]['figures']['cost_per_run']):.6f}" in first.stdout
    rows = list(csv.DictReader(io.StringIO(compare(*arguments, "--csv").stdout)))
    assert [row["generate"] for row in rows] == ["zai/glm-5.3", "openai/gpt-6-luna"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((BILLS, "--models", FIRST), "2 to 26 times"),
        ((BILLS, "--models", FIRST, "--models", FIRST), "given before"),
        ((BILLS, "--models", FIRST, "--models", "judge=zai/glm-5.3"), "must be step=model"),
        (("nowhere.txt", "--models", FIRST, "--models", "zai/glm-5.3"), "cannot read nowhere.txt"),
        ((ROOT / "llm_common", "--models", FIRST, "--models", "zai/glm-5.3"), "no *.txt or *.md in it"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(compare, arguments, told):
    """What cannot be compared is said before anything is paid."""
    done = compare(*arguments, "--jurisdiction", "California")
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
