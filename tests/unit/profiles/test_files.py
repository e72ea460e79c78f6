"""The configuration file: where it is, and what is refused."""

import os

import pytest

from llm_common.exceptions import ConfigurationError
from llm_common.profiles.files import find, read, refuse_secrets, state_of

KEY = "sk-proj-0123456789abcdef"


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "llm_common.toml"
    path.write_text("[profiles.fast]\ntemperature = 0.2\n")
    return path


@pytest.mark.parametrize("name", ["llm_common.toml", "llm_common.yaml", "llm_common.yml"])
def test_the_file_in_the_folder_is_found(tmp_path, name):
    """Each of the three names is known."""
    (tmp_path / name).touch()
    assert find(None, {}, tmp_path) == tmp_path / name


def test_no_file_is_no_error(tmp_path):
    """Built-in profiles need none, and an empty variable is not set."""
    assert find(None, {"LLM_COMMON_CONFIG": " "}, tmp_path) is None


def test_an_argument_wins_over_the_variable_and_that_over_the_folder(tmp_path, toml):
    """The nearer to the call, the stronger."""
    for name in ("argument.toml", "variable.yaml"):
        (tmp_path / name).touch()
    env = {"LLM_COMMON_CONFIG": str(tmp_path / "variable.yaml")}
    assert find(tmp_path / "argument.toml", env, tmp_path) == tmp_path / "argument.toml"
    assert find(None, env, tmp_path) == tmp_path / "variable.yaml"
    assert find(None, {"LLM_COMMON_CONFIG": "variable.yaml"}, tmp_path) == tmp_path / "variable.yaml"
    assert find(None, {}, tmp_path) == toml


def test_two_files_are_one_too_many(tmp_path, toml):
    """Nobody can know which of them was meant."""
    (tmp_path / "llm_common.yaml").touch()
    with pytest.raises(ConfigurationError, match=r"llm_common\.toml and llm_common\.yaml are both in .*LLM_COMMON_CON"):
        find(None, {}, tmp_path)


def test_a_file_that_was_named_must_be_there(tmp_path):
    """A wrong path is not the same as no file, and the error says who named it."""
    with pytest.raises(ConfigurationError, match=r"gone\.toml \(LLM_COMMON_CONFIG\) is not there"):
        find(None, {"LLM_COMMON_CONFIG": "gone.toml"}, tmp_path)
    with pytest.raises(ConfigurationError, match=r"gone\.toml is not there"):
        find(tmp_path / "gone.toml", {"LLM_COMMON_CONFIG": "other.toml"}, tmp_path)
    with pytest.raises(ConfigurationError, match=r"settings\.json is no \.toml"):
        find(tmp_path / "settings.json", {}, tmp_path)


def test_toml_and_yaml_say_the_same(tmp_path, toml):
    """A byte order mark, as editors on Windows write it, does no harm."""
    yaml = tmp_path / "other.yaml"
    yaml.write_bytes(b"\xef\xbb\xbfprofiles:\n  fast: {temperature: 0.2}\n")
    assert read(toml) == read(yaml) == {"profiles": {"fast": {"temperature": 0.2}}}


def test_an_empty_yaml_file_is_an_empty_one(tmp_path):
    """A file of comments changes nothing."""
    path = tmp_path / "llm_common.yaml"
    path.write_text("# later\n")
    assert read(path) == {}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.toml", b"[profiles.fast\n", "line 1"),
        ("a.toml", b"a = 1\na = 2\n", "line 2"),
        ("a.yaml", b"profiles: [\n", "line 2"),
        ("a.yaml", b"profiles:\n  fast: {}\n  fast: {}\n", "twice.*line 3"),
        ("a.yaml", b"- fast\n", "tables"),
        ("a.yaml", b"a: !!python/object/apply:os.getcwd []\n", "line 1"),
        ("a.yaml", b"a: \x07\n", "not YAML"),
        ("a.toml", b"\xff\xfe", "UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_line(tmp_path, name, content, told):
    """The error names the file and the place in it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"(?s){name}.*{told}"):
        read(tmp_path / name)


def test_a_broken_line_is_not_quoted(tmp_path):
    """It may hold a key, and errors are logged."""
    for name, content in (("a.yaml", f"key: '{KEY}\n"), ("a.toml", f"key = '{KEY}\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path / name)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"api_key": "x"}, "api_key"),
        ({"providers": {"openai": {"OPENAI_API_KEY": "x"}}}, "providers.openai.OPENAI_API_KEY"),
        ({"profiles": {"fast": {"extra": {"extra_headers": {"Authorization": "x"}}}}}, "extra_headers.Authorization"),
        ({"profiles": {"fast": {"extra": {"note": [f"Bearer {KEY}"]}}}}, "profiles.fast.extra.note"),
        ({"profiles": {"fast": {"temperature": KEY}}}, "profiles.fast.temperature"),
        ({"overlays": {"production": {"db_password": "x"}}}, "overlays.production.db_password"),
        ({KEY: 1}, "a name in the file"),
    ],
)
def test_a_file_with_a_key_in_it_is_refused(tmp_path, content, place):
    """By name or by shape, anywhere; the error says where, where keys belong, and not which."""
    with pytest.raises(ConfigurationError, match=rf"{place} looks like a key.*OPENAI_API_KEY") as caught:
        refuse_secrets(content, tmp_path)
    assert KEY not in str(caught.value)


def test_what_only_sounds_like_a_key_is_not():
    """Token limits, cache keys and names of models are no secrets."""
    harmless = {
        "profiles": {
            "fast": {"max_tokens": 5, "tokens_per_minute": 7, "models": ["xai-grok-4-fast-reasoning"]},
            "secretary": {"extra": {"prompt_cache_key": "bills", "keywords": "a", "token_budget": 3}},
        }
    }
    refuse_secrets(harmless, "llm_common.toml")


def test_a_file_that_was_replaced_is_another_one(tmp_path, toml):
    """Also where the new one has the same size and the same time."""
    before = state_of(toml)
    other = tmp_path / "other"
    other.write_bytes(toml.read_bytes())
    os.utime(other, ns=(toml.stat().st_atime_ns, toml.stat().st_mtime_ns))
    other.replace(toml)
    assert state_of(toml) != before
