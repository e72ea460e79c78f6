"""Many bills on the command line: a folder, the queue, workers, and interruptions."""

import json
import re
import signal
import subprocess
import time

import pytest

from llm_common.testing import Reply
from tests.support.command_line import answering, llm_common, started

PLACE = ("--jurisdiction", "California")
APP = """
from contextlib import asynccontextmanager
from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient

@asynccontextmanager
async def pipeline():
    async with Database.connect() as db, LLMClient() as llm, WebSearchClient(None, db) as search:
        print("the host's own", flush=True)
        yield AnalysisPipeline(llm, search, CostTracker(db), db)
"""


def until(condition, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise TimeoutError("did not happen within 60 s")


@pytest.fixture
def bills(tmp_path):
    folder = tmp_path / "bills"
    folder.mkdir()
    for number in range(5):
        text = f"SECTION 1. The board shall pay ${number + 1},000 to the county."
        (folder / f"AB-{number}.{'md' if number % 2 else 'txt'}").write_text(text)
    (folder / "notes.pdf").write_bytes(b"\x00\x01")
    return folder


@pytest.fixture
def env(online, dsn):
    return answering(online, dsn)


def test_a_folder_is_analysed_and_analysed_again_for_nothing(bills, env):
    """All its *.txt and *.md; the second time the results are there, and nobody is asked."""
    first = llm_common("analyze", bills, *PLACE, **env)
    assert first.returncode == 0, first.stderr
    assert "5 of 5 analysed, $0." in first.stdout
    assert {f"AB-{number}" for number in range(5)} == set(re.findall(r"✓ \d/5 (AB-\d)", first.stderr))
    again = llm_common("analyze", bills, *PLACE, "--json", **env)
    documents = [json.loads(line) for line in again.stdout.splitlines()]
    assert {document["bill_id"] for document in documents} == {f"AB-{number}" for number in range(5)}
    assert {document["status"] for document in documents} == {"completed"}
    assert llm_common("runs", "list", **env).stdout.count("completed") == 5


def test_a_bad_file_stops_no_other(bills, env):
    """An empty and a binary one fail for themselves, exit code 1; where all do, there is something to set right: 2."""
    (bills / "AB-8.txt").write_text(" ")
    (bills / "AB-9.txt").write_bytes(b"\xff\xfe\x00")
    mixed = llm_common("analyze", bills, *PLACE, "--json", **env)
    assert mixed.returncode == 1
    failed = [document for document in map(json.loads, mixed.stdout.splitlines()) if "error" in document]
    assert [(document["bill_id"], document["error"]) for document in failed] == [
        ("AB-8", "InvalidInputError"),
        ("AB-9", "InvalidInputError"),
    ]
    assert "AB-8.txt is empty" in failed[0]["message"]
    assert "AB-9.txt is UTF-16 text" in mixed.stderr
    bad = llm_common("analyze", bills / "AB-8.txt", bills / "AB-9.txt", *PLACE, **env)
    assert bad.returncode == 2


@pytest.mark.parametrize("case", ["empty", "twins", "named"])
def test_what_cannot_be_meant_is_a_sentence(bills, dsn, tmp_path, case):
    """A folder without bills, two bills of one name, one name for many: exit code 2, and nothing is written."""
    (tmp_path / "empty").mkdir()
    (bills / "AB-0.md").write_text("twin")
    arguments = {"empty": (tmp_path / "empty",), "twins": (bills,), "named": (bills / "AB-1.md", bills / "AB-2.txt")}
    extra = ("--bill-id", "X") if case == "named" else ()
    refused = llm_common("analyze", *arguments[case], *PLACE, *extra, DATABASE_URL=dsn)
    assert refused.returncode == 2
    assert "error:" in refused.stderr
    assert "no runs yet" in llm_common("runs", "list", DATABASE_URL=dsn).stdout


def test_enqueued_here_and_carried_out_there(bills, env):
    """--enqueue only writes; the queue says what waits; a worker empties it; the same command then has the results."""
    enqueued = llm_common("analyze", bills, *PLACE, "--enqueue", **env)
    assert enqueued.returncode == 0, enqueued.stderr
    assert "5 queued" in enqueued.stdout
    assert "5 due" in llm_common("runs", "queue", **env).stdout
    assert llm_common("runs", "list", "--status", "queued", **env).stdout.count("AB-") == 5
    worked = llm_common("worker", "--drain", "--concurrency", 2, **env)
    assert worked.returncode == 0, worked.stderr
    assert worked.stderr.count("✓") == 5
    assert "nothing waits" in llm_common("runs", "queue", **env).stdout
    assert "5 completed" in llm_common("analyze", bills, *PLACE, "--enqueue", **env).stdout


def test_a_worker_with_the_hosts_own_pipeline(bills, env, tmp_path):
    """--app takes a module of the current folder; one that is not there is a sentence."""
    (tmp_path / "hosts_app.py").write_text(APP)
    llm_common("analyze", bills, *PLACE, "--enqueue", "--model", "openrouter/z-ai/glm-5.3", **env)
    worked = llm_common("worker", "--drain", "--app", "hosts_app:pipeline", cwd=tmp_path, **env)
    assert worked.returncode == 0, worked.stderr
    assert "the host's own" in worked.stdout
    assert worked.stderr.count("✓") == 5
    for path, told in (("hosts_app", "module:factory"), ("nowhere:x", "no module"), ("hosts_app:other", "has no")):
        wrong = llm_common("worker", "--app", path, cwd=tmp_path, **env)
        assert wrong.returncode == 2
        assert told in wrong.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_leaves_nothing_running(bills, env, online, number):
    """A signal lets the steps under way end; the runs are back in the queue, and another worker finishes them."""
    llm_common("analyze", bills, *PLACE, "--enqueue", "--model", "openrouter/z-ai/glm-5.3", **env)
    online.script(*[Reply(delay=1.0)] * 30, endpoint="search")
    worker = started("worker", **env)
    until(lambda: any(request.endpoint == "search" for request in online.requests), worker)
    worker.send_signal(number)
    _, stderr = worker.communicate(timeout=60)
    assert worker.returncode == 0, stderr
    assert "nothing is left running" in stderr
    listed = llm_common("runs", "list", **env).stdout
    assert listed.count("queued") == 5
    assert "running" not in listed
    assert llm_common("worker", "--drain", **env).returncode == 0
    assert llm_common("runs", "list", **env).stdout.count("completed") == 5
    queries = [(request.body["search_query"]) for request in online.requests if request.endpoint == "search"]
    assert len(queries) == len(set(queries))


def test_an_interrupted_folder_goes_on(bills, env, online):
    """Ctrl-C: exit code 130, says how to go on; the same command finishes, and repeats no finished step."""
    chosen = ("--model", "openrouter/z-ai/glm-5.3", "--concurrency", 2)
    online.script(*[Reply(delay=60)] * 2, endpoint="search")
    process = started("analyze", bills, *PLACE, *chosen, **env)
    until(lambda: any(request.endpoint == "search" for request in online.requests), process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "go on with the same command" in stderr
    assert "running" not in llm_common("runs", "list", **env).stdout
    asked = sum(request.endpoint == "chat" for request in online.requests)
    again = llm_common("analyze", bills, *PLACE, *chosen, **env)
    assert again.returncode == 0, again.stderr
    assert "5 of 5 analysed" in again.stdout
    chats = sum(request.endpoint == "chat" for request in online.requests)
    assert chats == 5 * 3  # research, generate and review of each, those before the interruption included
    assert 0 < asked < chats


def test_cancel_and_score(bills, env):
    """A waiting run is cancelled at once; an analysis gets a score from 0 to 1."""
    lines = llm_common("analyze", bills, *PLACE, "--enqueue", "--json", **env).stdout.splitlines()
    first, second, *_ = [json.loads(line)["run_id"] for line in lines]
    assert llm_common("runs", "cancel", first, **env).stdout == "cancelled\n"
    assert llm_common("worker", "--drain", **env).returncode == 0
    assert llm_common("runs", "list", "--status", "cancelled", **env).stdout.count("AB-") == 1
    assert "0.75" in llm_common("runs", "score", second, "0.75", "--note", "good", **env).stdout
    assert llm_common("runs", "score", second, "7.5", **env).returncode == 2
    assert llm_common("runs", "list", "--status", "odd", **env).returncode == 2


def test_ray_needs_a_database_that_its_nodes_reach(bills, dsn):
    """Without DATABASE_URL, or with a database that only this process knows, nothing is begun."""
    for arguments in ((), ("--database-url", dsn)):
        refused = llm_common("analyze", bills, *PLACE, "--engine", "ray", *arguments)
        assert refused.returncode == 2
        assert "set DATABASE_URL, here and there" in " ".join(refused.stderr.split())
