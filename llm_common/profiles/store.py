"""`Profiles`: what is set now, swapped as a whole when the file changes."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.llm.profile import Profile
from llm_common.llm.profile_keys import near
from llm_common.profiles.files import FileState, find, state_of
from llm_common.profiles.loading import Loaded, load

__all__ = ["Profiles"]

_log = logging.getLogger(__name__)


class Profiles:
    """Named profiles: built in, from `llm_common.toml` (or `.yaml`), its overlay, and the environment, in this order.

    >>> llm = LLMClient(profiles=Profiles("settings/llm_common.toml", overlay="production"))
    ... await llm.chat("What is a bill?", profile="fast")

    The file is `path`, else what `LLM_COMMON_CONFIG` names, else the one in the directory that is the working one
    now; without any the built-in profiles are there. `overlay` is a section `[overlays.NAME]` of it, else what
    `LLM_COMMON_ENV` names. `LLM_COMMON_PROFILES__FAST__TEMPERATURE=0.2` in `environ` (default: the process's) wins
    over the file. Nothing is read before the first profile is wanted.

    A changed file is picked up by itself: where a profile is wanted, and the last look is `check_every` seconds ago
    (default 1; None: only by `reload()`), the file's time is looked at. One that has become wrong is logged, and what
    was read before holds. A call keeps the profile that it began with. Safe from threads.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        overlay: str | None = None,
        environ: Mapping[str, str] | None = None,
        check_every: float | None = 1.0,
    ) -> None:
        if check_every is not None and not check_every >= 0:
            raise InvalidInputError(f"check_every must be seconds, 0 or more, or None for never; got {check_every!r}")
        self._path = None if path is None else Path(path).expanduser()
        self._overlay = overlay
        self._environ = environ
        self._folder = Path.cwd()
        self._check_every = check_every
        self._next_look = 0.0
        self._loaded: Loaded | None = None
        self._seen: FileState | str | None = None
        self._guard = fork_safe_lock()

    def get(self, name: str) -> Profile:
        """The profile of that name, as it is set now.

        Raises `InvalidInputError` with the names that there are, and `ConfigurationError` for a file that is wrong.
        """
        profiles = self.current().profiles
        if name in profiles:
            return profiles[name]
        raise InvalidInputError(f"there is no profile {name!r}.{near(name, profiles)} There are {', '.join(profiles)}")

    def current(self) -> Loaded:
        """Everything that is set now: `profiles`, `file`, `overlay`, and `settings`: where each value is from."""
        loaded = self._loaded
        if loaded is None:
            return self._first()
        if self._check_every is not None and time.monotonic() >= self._next_look:
            self._look()
        return self._loaded or loaded

    def reload(self) -> None:
        """Read file and environment again, now. Raises `ConfigurationError`, and then nothing has changed."""
        with self._guard:
            self._read()

    def _first(self) -> Loaded:
        with self._guard:
            return self._loaded or self._read()

    def _look(self) -> None:
        # Who comes while another one looks takes what is there.
        if not self._guard.acquire(blocking=False):
            return
        try:
            if self._state() != self._seen:
                self._read()
        except ConfigurationError as error:
            _log.error("the profiles stay what they were: %s", error)
        finally:
            self._next_look = time.monotonic() + (self._check_every or 0.0)
            self._guard.release()

    def _read(self) -> Loaded:
        environ = os.environ if self._environ is None else self._environ
        # Its state first: what is written while it is read shows at the next look.
        self._seen = self._state()
        file = find(self._path, environ, self._folder)
        if file is None and self._loaded is not None and self._loaded.file is not None:
            raise ConfigurationError(f"{self._loaded.file} is gone; put it back, or name another in LLM_COMMON_CONFIG")
        self._loaded = load(file, self._overlay, environ)
        return self._loaded

    def _state(self) -> FileState | str | None:
        environ = os.environ if self._environ is None else self._environ
        try:
            file = find(self._path, environ, self._folder)
            return None if file is None else state_of(file)
        except (ConfigurationError, OSError) as error:
            return str(error)
