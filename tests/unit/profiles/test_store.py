"""`Profiles`: read late, swapped as a whole, and never left half changed."""

import logging
import os
import subprocess
import sys
import threading

import pytest

from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.profiles import Profiles


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "llm_common.toml"
    write(file, temperature=0.1)
    return file


def write(path, *, temperature, more=""):
    """As a deployment does it: a new file takes the old one's name."""
    new = path.with_suffix(".new")
    new.write_text(f"[profiles.fast]\ntemperature = {temperature}\n{more}")
    new.replace(path)


@pytest.fixture
def profiles(path):
    """Looks at the file each time."""
    return Profiles(path, environ={}, check_every=0)


def test_nothing_is_read_before_a_profile_is_wanted(path):
    """A file that is wrong, or not there yet, does not stop a host that asks for no profile."""
    path.write_text("wrong")
    early = Profiles(path, environ={})
    with pytest.raises(ConfigurationError, match="not TOML"):
        early.get("fast")
    write(path, temperature=0.4)
    assert early.get("fast").temperature == 0.4


def test_the_folder_is_the_working_directory_of_the_start(tmp_path, path, monkeypatch):
    """A host that changes its directory later keeps its profiles."""
    monkeypatch.chdir(tmp_path)
    profiles = Profiles(environ={}, check_every=0)
    monkeypatch.chdir("/")
    assert profiles.current().file == path


def test_the_process_environment_is_the_default(path, monkeypatch):
    """The file's name, its overlay and single values, as they are when it is read."""
    write(path, temperature=0.1, more="[overlays.live.profiles.fast]\ntimeout = 3")
    monkeypatch.setenv("LLM_COMMON_CONFIG", str(path))
    monkeypatch.setenv("LLM_COMMON_ENV", "live")
    profiles = Profiles()
    assert (profiles.get("fast").temperature, profiles.get("fast").timeout) == (0.1, 3)
    monkeypatch.setenv("LLM_COMMON_PROFILES__FAST__TEMPERATURE", "0.9")
    profiles.reload()
    assert profiles.get("fast").temperature == 0.9


def test_a_changed_file_is_picked_up(profiles, path):
    """Without a restart, and what was handed out before stays what it was."""
    before = profiles.get("fast")
    write(path, temperature=0.7)
    assert profiles.get("fast").temperature == 0.7
    assert before.temperature == 0.1


def test_a_file_that_became_wrong_changes_nothing(profiles, path, caplog):
    """It is logged once; the next good one is taken."""
    before = profiles.get("fast")
    path.write_text("[profiles.fast]\ntemperature = 'hot'")
    with caplog.at_level(logging.ERROR):
        assert [profiles.get("fast") for _ in range(3)] == [before] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "temperature = 'hot'" in caplog.text
    write(path, temperature=0.3)
    assert profiles.get("fast").temperature == 0.3


def test_a_reload_of_a_wrong_file_raises_and_changes_nothing(path):
    """Who reloads by hand hears at once."""
    profiles = Profiles(path, environ={}, check_every=None)
    before = profiles.current()
    path.write_text("[profiles.fast]\ntimeout = -1")
    with pytest.raises(ConfigurationError, match="timeout = -1"):
        profiles.reload()
    assert profiles.current() is before


def test_a_file_that_is_gone_changes_nothing(tmp_path, path, monkeypatch, caplog):
    """Editors take a file away for a moment; chains do not vanish with it."""
    monkeypatch.chdir(tmp_path)
    profiles = Profiles(environ={}, check_every=0)
    before = profiles.current()
    path.unlink()
    assert profiles.current() is before
    assert "is gone" in caplog.text
    with pytest.raises(ConfigurationError, match=r"llm_common\.toml is gone"):
        profiles.reload()
    write(path, temperature=0.8)
    assert profiles.get("fast").temperature == 0.8


def test_a_file_that_comes_later_is_picked_up(tmp_path, monkeypatch):
    """A host may start before its settings are there."""
    monkeypatch.chdir(tmp_path)
    profiles = Profiles(environ={}, check_every=0)
    assert profiles.get("fast").temperature == 0.3
    write(tmp_path / "llm_common.toml", temperature=0.5)
    assert profiles.get("fast").temperature == 0.5


def test_without_looking_only_a_reload_reads(path):
    """`check_every=None` leaves the moment to the host."""
    profiles = Profiles(path, environ={}, check_every=None)
    profiles.get("fast")
    write(path, temperature=0.7)
    assert profiles.get("fast").temperature == 0.1
    profiles.reload()
    assert profiles.get("fast").temperature == 0.7


def test_between_two_looks_the_file_is_left_alone(path):
    """One look in a thousand seconds: a changed file waits for the next."""
    profiles = Profiles(path, environ={}, check_every=1000)
    profiles.get("fast")
    profiles.get("fast")  # looks for the first time
    write(path, temperature=0.7)
    assert profiles.get("fast").temperature == 0.1


def test_an_unknown_profile_is_told_with_the_known_ones(profiles):
    """A typing error costs no look into the documentation."""
    with pytest.raises(InvalidInputError, match=r"'fats'\. Did you mean fast\? There are thinking, fast, instruct"):
        profiles.get("fats")


def test_a_period_that_makes_no_sense_is_refused():
    """Seconds are not negative."""
    with pytest.raises(InvalidInputError, match="check_every"):
        Profiles(check_every=-1)


@pytest.mark.slow
def test_readers_in_threads_see_one_state_or_the_other(tmp_path):
    """Two values that always change together are never seen apart, however many read while it is written."""
    path = tmp_path / "llm_common.toml"

    def put(number):
        new = path.with_suffix(".new")
        new.write_text(f"[profiles.fast]\nmax_tokens = {number}\n[profiles.instruct]\nmax_tokens = {number}\n")
        new.replace(path)

    put(1)
    profiles = Profiles(path, environ={}, check_every=0)
    seen, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            now = profiles.current().profiles
            seen.add((now["fast"].max_tokens, now["instruct"].max_tokens))

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(2, 40):
        put(number)
        profiles.reload()
    stop.set()
    for reader in readers:
        reader.join()
    assert all(fast == instruct for fast, instruct in seen)
    assert profiles.get("fast").max_tokens == 39


def test_making_profiles_loads_no_yaml():
    """Who keeps no YAML does not pay for reading it; who asks for no profile, for nothing."""
    program = (
        "import sys; from llm_common import LLMClient; LLMClient(); assert 'llm_common.profiles' not in sys.modules; "
        "from llm_common import Profiles; Profiles(environ={}).get('fast'); print('yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=os.sep, check=True)
    assert done.stdout.strip() == "False"
