"""The command line as its users meet it: as a process, with its two outputs and its exit code."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from llm_common.testing import Reply
from tests.support.command_line import llm_common, started

ROOT = Path(__file__).parents[2]
BILL = ROOT / "examples/bills/ab-1234.txt"
OTHER_BILL = ROOT / "examples/bills/hb-77.txt"


def analyze(bill: object, dsn: str, *arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    place = ("--bill-id", "AB-1234", "--jurisdiction", "California", "--database-url", dsn)
    # Without keys a database that is named is only written to by who says that it may be a demo.
    return llm_common("analyze", bill, *place, *([] if env else ["--offline"]), *arguments, **env)


def runs(dsn: str) -> str:
    return llm_common("runs", "list", "--database-url", dsn).stdout


def test_the_demo_runs_on_nothing_and_the_second_one_searches_in_the_cache(tmp_path):
    """Without keys, database or network: an analysis, its costs, rows that stay, and searches that are not repeated."""
    data = str(tmp_path / "data")
    arguments = ("analyze", BILL, "--bill-id", "AB-1234", "--jurisdiction", "California")
    try:
        first = llm_common(*arguments, LLM_COMMON_DATA_DIR=data)
        second = llm_common(*arguments, LLM_COMMON_DATA_DIR=data)
        listed = llm_common("runs", "list", LLM_COMMON_DATA_DIR=data)
    finally:
        llm_common("db", "stop", LLM_COMMON_DATA_DIR=data)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "offline demo: scripted provider on loopback" in first.stderr
    assert "review failed" in first.stderr
    assert "review passed" in first.stderr
    assert "refine:1" in first.stdout
    assert "total cost: $0." in first.stdout
    assert "Warning" not in first.stderr
    searched, cached = map(int, re.search(r"searches: (\d+), (\d+) of them", first.stdout).groups())
    assert searched > 0
    assert cached == 0
    assert f"searches: {searched}, {searched} of them from the cache" in second.stdout
    assert listed.stdout.count("completed") == 2


def test_json_is_one_document_and_everything_else_is_elsewhere(dsn):
    """Standard output can be piped into a program; another bill gives another analysis."""
    one, other = analyze(BILL, dsn, "--json"), analyze(OTHER_BILL, dsn, "--json")
    first, second = json.loads(one.stdout), json.loads(other.stdout)
    assert "offline demo" in one.stderr
    assert first["status"] == second["status"] == "completed"
    assert first["impacts"]
    assert {impact["title"] for impact in first["impacts"]}.isdisjoint(impact["title"] for impact in second["impacts"])
    assert [step["step"] for step in first["steps"]][:2] == ["research", "research.evidence"]
    assert all(step["model"] for step in first["steps"] if step["cost_usd"])


def test_a_bill_can_come_from_standard_input(dsn):
    """`-` is a file name that everybody knows."""
    place = ("--bill-id", "A", "--jurisdiction", "B", "--database-url", dsn, "--json", "--offline")
    piped = llm_common("analyze", "-", *place, stdin=BILL.read_bytes())
    quotes = [citation["quote"] for citation in json.loads(piped.stdout)["evidence"] if citation["source_id"] == "BILL"]
    assert quotes
    assert all(quote in BILL.read_text() for quote in quotes)


@pytest.mark.parametrize(
    ("bill", "arguments", "told"),
    [
        ("missing.txt", (), "cannot read missing.txt"),
        (b"", (), "empty"),
        (b"  \n ", (), "empty"),
        (b"\xff\xfeb\x00i\x00", (), "is UTF-16 text"),
        (b"a\x00b", (), "NUL"),
        (b"A bill.", ("--model", "zai/glm-5.33"), "zai/glm-5.3"),
        (b"A bill.", ("--models", "resaerch=zai/glm-5.3"), "resaerch"),
        (b"word " * 2_100_000, (), "10,000,000"),
    ],
    ids=["missing", "empty", "blank", "not-text", "binary", "unknown-model", "unknown-step", "too-long"],
)
def test_bad_input_is_a_sentence_and_exit_code_2(tmp_path, dsn, bill, arguments, told):
    """The error says what to do, and no run is left behind."""
    if isinstance(bill, bytes):
        (tmp_path / "bill.txt").write_bytes(bill)
        bill = tmp_path / "bill.txt"
    result = analyze(bill, dsn, *arguments)
    assert result.returncode == 2, result.stderr
    assert "error:" in result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert "no runs yet" in runs(dsn)


def test_no_database_is_a_sentence_and_exit_code_2():
    """The error names the server and the variable, not the password."""
    result = analyze(BILL, "postgresql://me:hidden@127.0.0.1:1/nowhere")
    assert result.returncode == 2
    assert "DATABASE_URL" in result.stderr
    assert "hidden" not in result.stderr


def test_a_data_folder_that_cannot_be_used_is_a_sentence_and_exit_code_2(tmp_path):
    """A file is no folder; another one can be chosen."""
    (tmp_path / "file").write_text("not a folder")
    result = llm_common("db", "status", LLM_COMMON_DATA_DIR=str(tmp_path / "file"))
    migrated = llm_common("migrate", LLM_COMMON_DATA_DIR=str(tmp_path / "file"))
    assert (result.returncode, migrated.returncode) == (2, 2)
    assert f"{tmp_path}/file is a file" in migrated.stderr


def test_a_wrong_key_is_a_sentence_and_exit_code_2(online, dsn):
    """The provider refuses, the run ends as failed, nothing was paid and the key is not printed."""
    result = analyze(BILL, dsn, **{**online.environment(), "ZAI_API_KEY": "zk-wrong-key-0123456789"})
    assert result.returncode == 2
    assert "key" in result.stderr
    assert "zk-wrong" not in result.stderr
    assert "failed" in runs(dsn)
    assert online.billed_usd == 0


def test_keys_lead_to_the_real_providers(online, dsn):
    """With keys set there is no offline demo: the configured addresses are asked, each call once."""
    result = analyze(BILL, dsn, "--model", "zai/glm-5.3", **online.environment())
    assert result.returncode == 0, result.stderr
    assert "offline" not in result.stderr
    assert {request.endpoint for request in online.requests} == {"chat", "search"}


def test_an_interrupted_run_ends_in_order_and_goes_on_later(online, dsn):
    """SIGTERM cancels the run with exit code 130; resuming pays no finished step again."""
    online.script(Reply(delay=60), endpoint="search")
    place = ("--bill-id", "A", "--jurisdiction", "B", "--model", "zai/glm-5.3", "--database-url", dsn)
    process = started("analyze", BILL, *place, **online.environment())
    while not any(request.endpoint == "search" for request in online.requests):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    run_id = re.search(r"llm-common runs resume (\S+)", stderr)[1]
    assert "cancelled" in runs(dsn)
    asked = [request.endpoint for request in online.requests].count("chat")
    resumed = llm_common("runs", "resume", run_id, "--database-url", dsn, "--json", **online.environment())
    assert resumed.returncode == 0, resumed.stderr
    assert "kept from before" in resumed.stderr
    assert json.loads(resumed.stdout)["run_id"] == run_id
    later = [request for request in online.requests if request.endpoint == "chat"][asked:]
    assert len(later) == len(json.loads(resumed.stdout)["steps"]) - 2  # without research and its evidence


def test_migrate_can_be_repeated(empty_dsn):
    """The first time names the files, the second finds nothing to do."""
    first, second = (llm_common("migrate", "--database-url", empty_dsn) for _ in range(2))
    assert "_foundation.sql" in first.stdout
    assert second.stdout == "up to date\n"


def test_the_doctor_says_what_is_wrong_and_what_to_do(online, dsn, empty_dsn):
    """Good and bad keys, an unmigrated database, and what is merely off."""
    good = llm_common("doctor", "--database-url", dsn, **online.environment())
    bad = llm_common("doctor", "--database-url", empty_dsn, **{**online.environment(), "OPENAI_API_KEY": "wrong"})
    off = llm_common("doctor", "--database-url", dsn)
    assert (good.returncode, bad.returncode, off.returncode) == (0, 1, 0)
    assert "refuses the key" in bad.stdout
    assert "llm-common migrate" in bad.stdout
    assert "set OPENAI_API_KEY" in off.stdout


def test_the_embedded_server_can_be_looked_at_and_stopped(tmp_path):
    """Status, stop, and status again."""
    data = {"LLM_COMMON_DATA_DIR": str(tmp_path / "data")}
    assert "not created yet" in llm_common("db", "status", **data).stdout
    assert llm_common("migrate", **data).returncode == 0
    assert f"{tmp_path}/data" in llm_common("db", "status", **data).stdout
    assert llm_common("db", "stop", **data).returncode == 0
    assert "running      no" in llm_common("db", "status", **data).stdout


def test_every_command_explains_itself():
    """`--help` works everywhere and needs no settings."""
    for command in ((), ("analyze",), ("migrate",), ("db", "status"), ("runs", "resume"), ("doctor",)):
        shown = llm_common(*command, "--help")
        assert shown.returncode == 0
        assert "Usage" in shown.stdout
