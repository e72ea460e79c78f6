"""Profiles on the command line, and the example, as a host meets them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_common.testing import FakeProvider
from tests.support.command_line import llm_common

EXAMPLE = Path(__file__).parents[2] / "examples/llm_common.toml"


def plain(text):
    """Without the table's spaces and the terminal's line breaks."""
    return " ".join(text.split())


def test_the_table_says_what_holds_and_where_each_value_is_from(tmp_path):
    """Built in, file, overlay and environment, each by its name."""
    (tmp_path / "llm_common.toml").write_text(EXAMPLE.read_text())
    shown = llm_common(
        "profiles", cwd=tmp_path, LLM_COMMON_ENV="production", LLM_COMMON_PROFILES__BILL_SUMMARY__TIMEOUT="5"
    )
    assert shown.returncode == 0, shown.stderr
    lines = [plain(line) for line in shown.stdout.splitlines()]
    for line in (
        "fast temperature 0.3 built-in",
        "fast models zai/glm-5.3-flash, openai/gpt-6-luna llm_common.toml",
        "fast concurrency 64 llm_common.toml [overlays.production]",
        "bill_summary timeout 5.0 LLM_COMMON_PROFILES__BILL_SUMMARY__TIMEOUT",
        "bill_summary extra.top_p 0.9 llm_common.toml",
        f"file: {tmp_path}/llm_common.toml",
        "overlay: production (there are production, development)",
    ):
        assert line in lines


def test_without_a_file_the_built_in_ones_are_shown(tmp_path):
    """And what they ask, and how to change that."""
    shown = llm_common("profiles", cwd=tmp_path, LLM_COMMON_MODEL="zai/glm-5.3")
    assert "fast models zai/glm-5.3 LLM_COMMON_MODEL" in plain(shown.stdout)
    assert "add llm_common.toml (or .yaml) here" in shown.stdout
    assert "LLM_COMMON_MODEL is not set" in llm_common("profiles", cwd=tmp_path).stdout


def test_json_is_one_document(tmp_path):
    """For programs: the file, the overlay, values and origins."""
    shown = llm_common("profiles", "--config", str(EXAMPLE), "--overlay", "production", "--json", cwd=tmp_path)
    document = json.loads(shown.stdout)
    assert (document["file"], document["overlay"]) == (str(EXAMPLE), "production")
    assert document["profiles"]["fast"]["concurrency"] == 64
    assert document["origins"]["fast"]["concurrency"] == "llm_common.toml [overlays.production]"
    assert document["profiles"]["bill_summary"]["extra"] == {"top_p": 0.9}


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        ("[profiles.fast]\ntemperatur = 1", (), "Did you mean temperature?"),
        ("", ("--overlay", "production"), "names no overlay"),
        ("", ("--config", "other.toml"), "is not there"),
        ("[openai]\napi_key = 'secret-value'", (), "openai.api_key looks like a key"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_exit_code_2(tmp_path, content, arguments, told):
    """It names the file, and shows no key."""
    (tmp_path / "llm_common.toml").write_text(content)
    shown = llm_common("profiles", *arguments, cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert told in plain(shown.stderr)
    assert "secret-value" not in shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_doctor_says_which_profiles_hold_and_whether_their_models_can_be_asked(tmp_path, dsn):
    """The file and overlay in use; a model that cannot be asked shows before an outage needs it."""
    config = tmp_path / "llm_common.toml"
    config.write_text('[profiles.fast]\nmodels = ["zai/glm-5.3", "openai/gpt-6-luna"]\n[overlays.live]\n')
    with FakeProvider.serve_in_thread() as provider:
        env = provider.environment()
        keyless = {name: value for name, value in env.items() if name.startswith("ZAI_")}
        bad = llm_common("doctor", "--database-url", dsn, cwd=tmp_path, LLM_COMMON_ENV="live", **keyless)
        config.write_text('[profiles.fast]\nmodels = ["zai/glm-5.3", "openai/gpt-6-luna"]\n')
        good = llm_common("doctor", "--database-url", dsn, cwd=tmp_path, **env)
        config.write_text("[profiles.fast")
        broken = llm_common("doctor", "--database-url", dsn, cwd=tmp_path, **env)
    assert f"ok profiles {config}, overlay live bad profile fast model 'openai/gpt-6-luna'" in plain(bad.stdout)
    assert "there is no key for it: set OPENAI_API_KEY" in plain(bad.stdout)
    assert bad.returncode == broken.returncode == 1
    assert good.returncode == 0, good.stdout
    assert "ok profile fast zai/glm-5.3, then openai/gpt-6-luna" in plain(good.stdout)
    assert f"bad profiles {config} is not TOML" in plain(broken.stdout)


def test_the_example_is_used_as_it_is(tmp_path):
    """A host beside it asks with each of its profiles; what is sent is what stands in it."""
    program = """
import asyncio
from llm_common import LLMClient
from llm_common.profiles import select_profile

async def main():
    async with LLMClient() as llm:
        for name in ("fast", "instruct", "bill_summary", select_profile("Compare the two bills").profile):
            await llm.chat("What is a bill?", profile=name)

asyncio.run(main())
"""
    with FakeProvider.serve_in_thread() as provider:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            cwd=EXAMPLE.parent,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **provider.environment()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        bodies = [request.body for request in provider.requests]
    assert done.returncode == 0, done.stderr
    keys = ("model", "temperature", "reasoning_effort", "max_tokens", "max_completion_tokens", "top_p")
    assert [tuple(body.get(key) for key in keys) for body in bodies] == [
        ("glm-5.3-flash", 0.3, "low", 4096, None, None),
        ("glm-5.3", 0.0, None, 8192, None, None),
        ("gpt-6-luna", None, None, 1500, None, 0.9),
        ("glm-5.3", None, "high", None, None, None),
    ]
