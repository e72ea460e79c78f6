"""What a model, a web page or a provider writes is text on the terminal, and never a command to it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_common.testing import FakeProvider, Fault
from llm_common.testing.analyst import answer_chat, answer_search
from llm_common.testing.network import block_network
from tests.support.command_line import answering, invoked
from tests.support.terminal import commands_in, in_terminal, without_styles

BILL = Path(__file__).parents[2] / "examples/bills/hb-77.txt"
#: Commands to a terminal, in C0 and in C1; what turns the text around; markup and an emoji. Without a digit, which
#: would be a figure that no source has.
HOSTILE = "\x1b]c;QQ==\x07\x1b[J\x9d;title\x9c\u202eabc\u2066[red]:warning:\x08\x7f\u2028"
#: What must hold to its source, or leads somewhere.
KEPT = {"quote", "source_id", "citations", "link", "queries", "amount_usd"}


def poisoned(value: Any, name: str = "") -> Any:
    """The same answer, with every text in it a hostile one."""
    if isinstance(value, dict):
        return {key: inner if key in KEPT else poisoned(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, name) for inner in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) and value else value


@pytest.fixture
def hostile():
    def chat(request):
        answer = answer_chat(request)
        return replace(answer, text=json.dumps(poisoned(json.loads(answer.text))))

    def search(request):
        return poisoned(answer_search(request))

    with block_network(), FakeProvider.serve_in_thread(answer=chat, search_answer=search) as provider:
        yield provider


def test_the_poison_is_seen_where_nothing_hides_it():
    """The control: the check finds each of the commands."""
    assert len(commands_in(HOSTILE)) == 9
    assert commands_in("\x1b[31mred\x1b[0m and \x1b[?25l a spinner\n") == []


def test_no_command_reaches_a_terminal(hostile, dsn):
    """Progress, report, tables and costs of a run whose models and pages are hostile, on a real terminal."""
    env = answering(hostile, dsn)
    code, shown = in_terminal("analyze", BILL, "--jurisdiction", "Oregon", **env)
    assert code == 0, shown
    assert commands_in(shown) == []
    assert r"\x1b]c;QQ==\x07" in re.sub(r"\s+", "", without_styles(shown))
    assert "[red]:warning:" in re.sub(r"\s+", "", without_styles(shown))
    for arguments in (("runs", "list"), ("costs", "--by", "user"), ("cache", "stats")):
        code, shown = in_terminal(*arguments, columns=40, **env)
        assert code == 0, shown
        assert commands_in(shown) == []


def test_no_command_leaves_in_a_pipe(hostile, dsn):
    """Neither in text nor in JSON, whose reader gets the text as it was."""
    env = answering(hostile, dsn)
    made = invoked("analyze", BILL, "--jurisdiction", "Oregon", "--json", **env)
    assert made.returncode == 0, made.stderr
    analysis = json.loads(made.stdout)
    assert HOSTILE.split("\x08", maxsplit=1)[0] in analysis["summary"]
    for arguments in (
        ("runs", "show", analysis["run_id"]),
        ("runs", "show", analysis["run_id"], "--json"),
        ("runs", "list", "--json"),
        ("costs", "--json"),
        ("costs", "--csv"),
        ("costs", "--raw-csv"),
        ("doctor",),
    ):
        shown = invoked(*arguments, **env)
        assert commands_in(made.stdout + made.stderr + shown.stdout + shown.stderr) == [], arguments


def test_no_command_leaves_with_an_error(hostile, dsn):
    """A provider's words in the error, in the failed run, and in what the log says of a search."""
    env = answering(hostile, dsn)
    hostile.script(*[Fault.server_error(500, f"down {HOSTILE}")] * 9, endpoint="search")
    hostile.script(*[Fault.zai_error(1214, message=f"bad {HOSTILE}")] * 9, endpoint="chat")
    failed = invoked("analyze", BILL, "--jurisdiction", "Oregon", **env)
    assert failed.returncode in (1, 2)
    assert r"\x1b[J" in failed.stderr
    run_id = json.loads(invoked("runs", "list", "--json", **env).stdout)[0]["id"]
    shown = invoked("runs", "show", run_id, **env)
    assert r"\x1b[J" in shown.stderr
    assert commands_in(failed.stdout + failed.stderr + shown.stdout + shown.stderr) == []
