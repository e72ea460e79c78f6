"""Built-in profiles, file, overlay and environment, in this order."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import ConfigurationError
from llm_common.llm.profile import BUILT_IN, Profile
from llm_common.llm.profile_keys import KEYS
from llm_common.profiles.loading import load

BASE = """
[profiles.fast]
models = ["zai/glm-5.3-flash", "openai/gpt-6-luna"]
temperature = 0.1
extra = { top_p = 0.9, thinking = { type = "enabled" } }

[profiles.code_review]
models = ["openai/gpt-6.1-sol"]
timeout = 90

[overlays.production.profiles.fast]
models = ["openai/gpt-6-luna"]
extra = { thinking = { budget = 5 } }

[overlays.staging]
"""


@pytest.fixture
def write(tmp_path):
    def at(content: str, name: str = "llm_common.toml") -> Path:
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return at


def test_without_a_file_the_built_in_ones_are_there():
    """They have the three names, and none of them names a model."""
    loaded = load(None, None, {})
    assert loaded.profiles == BUILT_IN
    assert list(loaded.profiles) == ["thinking", "fast", "instruct"]
    assert [profile.models for profile in loaded.profiles.values()] == [()] * 3
    assert {setting.origin for settings in loaded.settings.values() for setting in settings.values()} == {"built-in"}


def test_a_file_lies_over_the_built_in_ones(write):
    """It changes what it names; a profile of one's own begins with nothing."""
    profiles = load(write(BASE), None, {}).profiles
    built_in = BUILT_IN["fast"]
    assert profiles["fast"].models == ("zai/glm-5.3-flash", "openai/gpt-6-luna")
    assert (profiles["fast"].temperature, profiles["fast"].timeout) == (0.1, built_in.timeout)
    assert profiles["code_review"] == Profile(name="code_review", models=("openai/gpt-6.1-sol",), timeout=90)
    assert profiles["thinking"] == BUILT_IN["thinking"]


@pytest.mark.parametrize(("argument", "env"), [("production", {}), (None, {"LLM_COMMON_ENV": "production"})])
def test_an_overlay_lies_over_the_file(write, argument, env):
    """Chosen by argument or variable: chains are replaced, tables merged."""
    loaded = load(write(BASE), argument, env)
    fast = loaded.profiles["fast"]
    assert (loaded.overlay, loaded.overlays) == ("production", ("production", "staging"))
    assert (fast.models, fast.temperature) == (("openai/gpt-6-luna",), 0.1)
    assert fast.extra == {"top_p": 0.9, "thinking": {"type": "enabled", "budget": 5}}


def test_the_argument_wins_over_the_variable(write):
    """And an overlay may change nothing."""
    loaded = load(write(BASE), "staging", {"LLM_COMMON_ENV": "production"})
    assert loaded.profiles == load(write(BASE), None, {}).profiles


def test_the_environment_lies_on_top(write):
    """Text becomes numbers, lists and tables; an empty variable is not set."""
    env = {
        "LLM_COMMON_PROFILES__FAST__TEMPERATURE": "0.7",
        "LLM_COMMON_PROFILES__FAST__MODELS": "zai/glm-5.3, zai/glm-5.2",
        "LLM_COMMON_PROFILES__FAST__MAX_TOKENS": "77",
        "LLM_COMMON_PROFILES__FAST__TIMEOUT": " ",
        "LLM_COMMON_PROFILES__FAST__REASONING_EFFORT": "low",
        "LLM_COMMON_PROFILES__FAST__EXTRA": '{"seed": 3}',
        "LLM_COMMON_PROFILES__FAST__EXTRA__TOP_P": "0.5",
        "LLM_COMMON_PROFILES__FAST__EXTRA__THINKING__TYPE": "disabled",
        "LLM_COMMON_PROFILES__CODE_REVIEW__STALL_TIMEOUT": "2.5",
        "LLM_COMMON_PROJECT": "billing",
    }
    loaded = load(write(BASE), "production", env)
    fast = loaded.profiles["fast"]
    assert fast == Profile(
        name="fast",
        models=("zai/glm-5.3", "zai/glm-5.2"),
        temperature=0.7,
        max_tokens=77,
        timeout=30,
        first_token_timeout=10,
        stall_timeout=10,
        reasoning_effort="low",
        extra={"top_p": 0.5, "seed": 3, "thinking": {"type": "disabled", "budget": 5}},
    )
    assert loaded.profiles["code_review"].stall_timeout == 2.5


def test_each_value_says_where_it_is_from(write):
    """The four places, also within a table."""
    env = {"LLM_COMMON_PROFILES__FAST__TEMPERATURE": "0.7"}
    settings = load(write(BASE), "production", env).settings["fast"]
    assert {key: setting.origin for key, setting in settings.items()} == {
        "models": "llm_common.toml [overlays.production]",
        "temperature": "LLM_COMMON_PROFILES__FAST__TEMPERATURE",
        "max_tokens": "built-in",
        "timeout": "built-in",
        "first_token_timeout": "built-in",
        "stall_timeout": "built-in",
        "extra.top_p": "llm_common.toml",
        "extra.thinking.type": "llm_common.toml",
        "extra.thinking.budget": "llm_common.toml [overlays.production]",
    }


def test_yaml_says_the_same_as_toml_and_can_take_back(write):
    """Anchors work, and null leaves a built-in value to the client."""
    yaml = """
profiles:
  fast: &shared
    models: [zai/glm-5.3]
    temperature: null
    timeout: 5
  mine:
    <<: *shared
    timeout: 9
overlays:
  production: {profiles: {mine: {temperature: 1}}}
"""
    profiles = load(write(yaml, "llm_common.yaml"), "production", {}).profiles
    assert (profiles["fast"].temperature, profiles["fast"].timeout) == (None, 5.0)
    assert profiles["mine"] == Profile(name="mine", models=("zai/glm-5.3",), temperature=1, timeout=9)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[profiles.fast]\ntemperature = 'hot'", r"\[profiles.fast\] temperature = 'hot' .* a number from 0 to 2"),
        ("[profiles.fast]\ntemperature = nan", "temperature = nan"),
        ("[profiles.fast]\ntemperature = true", "temperature = True"),
        ("[profiles.fast]\ntemperature = 2.1", "temperature = 2.1"),
        ("[profiles.fast]\ntimeout = 0", "timeout = 0 .* seconds, more than 0"),
        ("[profiles.fast]\ntimeout = inf", "timeout = inf"),
        ("[profiles.fast]\nstall_timeout = -1", "stall_timeout"),
        ("[profiles.fast]\nmax_tokens = 1.5", "max_tokens = 1.5 .* whole number"),
        ("[profiles.fast]\nconcurrency = 0", "concurrency = 0"),
        ("[profiles.fast]\nrequests_per_minute = true", "requests_per_minute"),
        ("[profiles.fast]\nmodels = 'zai/glm-5.3'", "a list of one.*give a list of names"),
        ("[profiles.fast]\nmodels = []", "models = .*empty"),
        ("[profiles.fast]\nmodels = ['a', ' ']", "no name"),
        ("[profiles.fast]\nmodels = ['a', 1]", "no name"),
        ("[profiles.fast]\nmodels = ['a', 'a']", "twice"),
        ("[profiles.fast]\nreasoning_effort = 'hihg'", "Did you mean high"),
        ("[profiles.fast]\nextra = 3", "extra = 3"),
        ("[profiles.fast]\nextra = {temperature = 1}", "temperature stands in the profile itself"),
        ("[profiles.fast]\nextra = {stream = true}", "stream is the call's own"),
        ("[profiles.fast]\nextra = {day = 2026-11-26}", "day holds a date"),
        ("[profiles.fast]\nextra = {a = [nan]}", "a holds a float"),
        ("[profiles.fast]\ntemperatur = 1", r"temperatur is not known. Did you mean temperature\?"),
        ("[profiles.fast]\nmodel = 'a'", r"Did you mean models\?"),
        ("[profiles]\nfast = 3", r"\[profiles.fast\] must be a table"),
        ("profiles = 3", "profiles must be a table"),
        ("overlays = 3", "overlays must be a table"),
        ("[overlays]\nproduction = 3", r"\[overlays.production\] must be a table"),
        ("[overlays.production.profile.fast]", r"\[overlays.production.profile\] is not known"),
        ("[overlays.production.profiles.fast]\ntimeout = 'x'", r"\[overlays.production.profiles.fast\] timeout = 'x'"),
        ("[overlays.production.profiles.fats]", r"a profile that is not there. Did you mean fast\?"),
        ("[profile.fast]", r"\[profile\] is no table that is known. Did you mean profiles\?"),
        ("[profiles.Code-Review]", "lower-case letters"),
        ("[profiles.a__b]", "single underscores"),
    ],
)
def test_what_is_wrong_is_told_by_file_section_key_and_value(write, content, told):
    """With what would be right; also in an overlay that was not chosen."""
    path = write(content)
    with pytest.raises(ConfigurationError, match=told) as caught:
        load(path, None, {})
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FAST__TEMPERATURE", "hot", "temperature = 'hot' .* a number from 0 to 2"),
        ("FAST__TEMPERATUR", "1", "Did you mean temperature"),
        ("FAST__MAX_TOKENS", "1.5", "max_tokens = '1.5'"),
        ("FAST__MODELS", ",", "empty"),
        ("FAST__EXTRA", "fast", "extra = 'fast'"),
        ("FAST__EXTRA__MODEL", "x", "model is the call's own"),
        ("FAST__TIMEOUT__SECONDS", "1", "names no setting"),
        ("FAST__", "1", "names no setting"),
        ("FAST", "1", "names no setting"),
        ("FASST__TIMEOUT", "1", "Did you mean fast"),
    ],
)
def test_what_is_wrong_in_the_environment_is_told_by_the_variable(variable, value, told):
    """A typing error is not a setting that does nothing."""
    name = f"LLM_COMMON_PROFILES__{variable}"
    with pytest.raises(ConfigurationError, match=rf"{name}: .*{told}"):
        load(None, None, {name: value})


@pytest.mark.parametrize("variable", ["FAST__API_KEY", "FAST__EXTRA__API_KEY", "FAST__EXTRA__NOTE", "FAST__TIMEOUT"])
def test_a_key_in_a_profiles_variable_is_refused(variable):
    """It would go into the body of each request; the error does not say it."""
    key = "sk-proj-0123456789abcdef"
    with pytest.raises(ConfigurationError, match=rf"{variable}: .*looks like a key.*OPENAI_API_KEY") as caught:
        load(None, None, {f"LLM_COMMON_PROFILES__{variable}": key})
    assert key not in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(write):
    """One look at the error is enough."""
    path = write("[profiles.fast]\ntimeout = 0\nhot = 1\n[profiles.Own]\n[other]")
    env = {"LLM_COMMON_ENV": "production", "LLM_COMMON_PROFILES__FAST__MAX_TOKENS": "many"}
    with pytest.raises(ConfigurationError) as caught:
        load(path, None, env)
    lines = str(caught.value).splitlines()
    for told in ("timeout = 0", "hot is", "[profiles.Own]", "[other]", "LLM_COMMON_ENV", "MAX_TOKENS: "):
        assert [told in line for line in lines].count(True) == 1, told
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("argument", "env", "told"),
    [
        (
            None,
            {"LLM_COMMON_ENV": "prodution"},
            "LLM_COMMON_ENV='prodution' .*it has production, staging. Did you mean",
        ),
        ("live", {}, r"overlay='live' .*an empty \[overlays.live\]"),
    ],
)
def test_an_overlay_that_is_not_there_is_an_error(write, argument, env, told):
    """A typing error must not become production without its overlay."""
    with pytest.raises(ConfigurationError, match=told):
        load(write(BASE), argument, env)
    with pytest.raises(ConfigurationError, match="there is no configuration file"):
        load(None, argument, env)


def test_a_file_that_holds_itself_is_refused(write):
    """YAML can do that."""
    with pytest.raises(ConfigurationError, match="in itself"):
        load(write("profiles: &a {fast: {extra: *a}}", "llm_common.yaml"), None, {})


VALUES = {
    "models": st.lists(st.sampled_from(["zai/a", "openai/b", "c"]), min_size=1, unique=True).map(tuple),
    "temperature": st.floats(0, 2),
    "reasoning_effort": st.sampled_from(["low", "high"]),
    **dict.fromkeys(("max_tokens", "concurrency", "requests_per_minute", "tokens_per_minute"), st.integers(1, 10**9)),
    **dict.fromkeys(("timeout", "first_token_timeout", "stall_timeout"), st.floats(0.001, 1e6)),
}


@given(st.fixed_dictionaries({}, optional=VALUES), st.fixed_dictionaries({}, optional=VALUES))
def test_whatever_is_right_comes_through_file_and_environment_as_it_is(in_file, in_environment):
    """The last layer that has a key decides; what none has is left to the client."""
    env = {
        f"LLM_COMMON_PROFILES__MINE__{key.upper()}": ",".join(value) if key == "models" else str(value)
        for key, value in in_environment.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "llm_common.toml"
        settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in in_file.items())
        path.write_text(f"[profiles.mine]\n{settings}")
        loaded = load(path, None, env)
    assert loaded.profiles["mine"] == Profile(name="mine", **{**in_file, **in_environment})


def test_every_key_is_a_field():
    """The table of keys and the value agree."""
    assert set(KEYS) == set(Profile.__dataclass_fields__) - {"name"}


def test_the_example_is_right():
    """With and without its overlays."""
    path = Path(__file__).parents[3] / "examples/llm_common.toml"
    assert load(path, None, {}).profiles["bill_summary"].extra == {"top_p": 0.9}
    assert load(path, "production", {}).profiles["fast"].concurrency == 64
    assert load(path, "development", {}).profiles == load(path, None, {}).profiles
