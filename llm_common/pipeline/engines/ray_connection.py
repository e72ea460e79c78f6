"""The connection to an existing Ray cluster: the host's own, or the one that `RAY_ADDRESS` or Ray itself finds."""

import os
import re
import socket
from typing import Any, Final

from llm_common._runtime.extras import require
from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import ConfigurationError

__all__ = ["connected"]

_connecting: Final = fork_safe_lock()
#: Seconds until an address that does not answer is given up. Ray itself would try for minutes.
_ANSWERS_WITHIN: Final = 10.0
_ADDRESS: Final = re.compile(r"(?:ray://)?\[?(?P<host>[^/\[\]]+?)\]?:(?P<port>\d+)")
_ADVICE: Final = "start one with `ray start --head`, set RAY_ADDRESS, or call ray.init(...) first: none is started here"


def connected() -> Any:
    """The module `ray`, with a connection. Raises `ConfigurationError` without Ray, or without a cluster.

    For a thread of its own: it may take seconds, and there Ray does not take SIGTERM's handler away from the host.
    """
    require("ray", extra="ray", what='engine="ray"')
    import ray as installed

    ray: Any = installed
    with _connecting:
        if not ray.is_initialized():
            try:
                _check_answer(os.environ.get("RAY_ADDRESS", ""))
                ray.init(address="auto")
            except (OSError, RuntimeError, ValueError) as error:
                raise ConfigurationError(f"no Ray cluster can be reached ({error}); {_ADVICE}") from error
    return ray


def _check_answer(address: str) -> None:
    """Raises `OSError` where nobody listens at `host:port` or `ray://host:port`. Other forms are Ray's to judge."""
    if address == "local":
        raise ConnectionError("RAY_ADDRESS is local, with which Ray would start a cluster of its own")
    if found := _ADDRESS.fullmatch(address):
        try:
            socket.create_connection((found["host"], int(found["port"])), timeout=_ANSWERS_WITHIN).close()
        except OSError as error:
            raise ConnectionError(f"RAY_ADDRESS is {address}, and nothing answers there: {error}") from error
