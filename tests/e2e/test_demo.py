"""Nothing is made up where somebody counts on it: what a command does without a provider's key."""

import json
from pathlib import Path

import pytest

from llm_common.testing.network import block_network
from tests.support.command_line import answering, invoked

BILL = Path(__file__).parents[2] / "examples/bills/hb-77.txt"
PLACE = ("--bill-id", "HB-77", "--jurisdiction", "Oregon")


@pytest.fixture(autouse=True)
def _loopback():
    with block_network():
        yield


@pytest.fixture
def folder(tmp_path):
    """A data folder, whose servers are stopped in the end."""
    data = {"LLM_COMMON_DATA_DIR": str(tmp_path / "data")}
    yield data
    invoked("db", "stop", **data)
    invoked("db", "stop", **data, ZAI_API_KEY="any")


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "--drain"),
        ("runs", "resume", "0f5e7c9a-0000-4000-8000-000000000000"),
        ("compare", BILL, "--jurisdiction", "Oregon", "--models", "zai/glm-5.3", "--models", "openai/gpt-6-luna"),
        ("analyze", BILL, "--jurisdiction", "Oregon", "--enqueue"),
        ("analyze", BILL, *PLACE, "--database-url", "DSN"),
        ("analyze", BILL, "--jurisdiction", "Oregon", "--engine", "ray"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_without_a_key_it_is_refused(arguments, dsn):
    """Exit code 2 and one sentence that names the variables, whatever the database; nothing is written."""
    arguments = [dsn if argument == "DSN" else argument for argument in arguments]
    refused = invoked(*arguments, DATABASE_URL=dsn)
    assert refused.returncode == 2, refused.stderr
    assert "ZAI_API_KEY" in refused.stderr
    assert "never made up" in refused.stderr
    assert refused.stdout == ""
    assert json.loads(invoked("runs", "list", "--json", DATABASE_URL=dsn).stdout) == []


def test_the_demo_has_a_place_of_its_own(folder, dsn, online):
    """Its run is marked and stays out of the real database, of the real folder, and of the money."""
    demo = invoked("analyze", BILL, *PLACE, "--json", **folder, DATABASE_URL=dsn)
    assert demo.returncode == 0, demo.stderr
    assert "offline demo" in demo.stderr
    assert json.loads(demo.stdout)["answered_by"] == "offline"
    assert json.loads(invoked("runs", "list", "--json", DATABASE_URL=dsn).stdout) == []
    assert "completed, demo" in invoked("runs", "list", **folder).stdout
    run_id = json.loads(demo.stdout)["run_id"]
    assert "a script made this up" in invoked("runs", "show", run_id[:8], **folder).stdout
    assert "nobody was paid" in invoked("costs", **folder).stdout

    real = invoked("analyze", BILL, *PLACE, "--json", **folder, **online.environment())
    assert real.returncode == 0, real.stderr
    assert "offline" not in real.stderr
    assert json.loads(real.stdout)["answered_by"] != "offline"
    assert any(request.endpoint == "chat" for request in online.requests)
    told = json.loads(invoked("costs", "--json", **folder, **online.environment()).stdout)
    assert told["today"]["cost_usd"] == json.loads(real.stdout)["cost_usd"]


def test_a_demo_is_never_handed_out_as_real(dsn, online):
    """The same command with a key asks the models, even where a demo was written into the same database on purpose."""
    invoked("analyze", BILL, "--jurisdiction", "Oregon", "--offline", "--database-url", dsn)
    again = invoked("analyze", BILL.parent, "--jurisdiction", "Oregon", "--json", **answering(online, dsn))
    assert again.returncode == 0, again.stderr
    assert {json.loads(line)["answered_by"] for line in again.stdout.splitlines()} != {"offline"}
    assert sum(request.endpoint == "chat" for request in online.requests) >= 2 * 3


def test_an_address_or_a_model_of_ones_own_is_a_provider(dsn):
    """Who has a server without a key, or a key that only LiteLLM reads, gets no demo."""
    for chosen in ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, {"LLM_COMMON_MODEL": "zai/glm-5.3"}):
        asked = invoked("analyze", BILL, *PLACE, "--database-url", dsn, **chosen)
        assert asked.returncode == 2, asked.stderr
        assert "demo" not in asked.stderr
    assert (
        "name one in LLM_COMMON_MODEL"
        in invoked("analyze", BILL, *PLACE, "--database-url", dsn, OPENAI_BASE_URL="http://127.0.0.1:1/v1").stderr
    )
