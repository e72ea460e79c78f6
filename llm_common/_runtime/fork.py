"""What a forked child does with what it inherits: it lets go of it, and its parent notices nothing.

Celery's prefork pool, `gunicorn --preload` and multiprocessing's "fork" copy a process without its other threads. The
copies of its sockets share the parent's connections, the copies of its event loops share the parent's epoll: closing
one of them in the child says goodbye to the parent's peer, or makes the parent deaf on that connection. So the child
cuts the copies of sockets off, keeps the rest without ever finalizing it, and opens what it needs anew.
"""

import os
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["after_fork_in_child", "cut_off", "fork_safe_lock", "keep_for_ever", "new_socket"]

T = TypeVar("T")

_actions: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def after_fork_in_child(owner: T, action: Callable[[T], None]) -> None:
    """Calls `action(owner)` in each forked child, before anything else runs there, while `owner` lives.

    `action` must not refer to `owner` (an unbound method does not). No other thread exists when it is called.
    """
    _actions[owner] = action


def fork_safe_lock() -> threading.Lock:
    """A lock that is free in a child, although a thread of the parent held it at the moment of the fork."""
    lock = threading.Lock()
    after_fork_in_child(lock, _set_free)
    return lock


def new_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that a child is cut off from; a `socket_factory` of aiohttp. `address` is one of `getaddrinfo`."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    after_fork_in_child(made, _cut_off_socket)
    return made


def cut_off(descriptor: int) -> None:
    """Puts a broken pipe in the place of a file descriptor of this process; other processes keep the file."""
    if descriptor < 0:
        return
    ours, other = socket.socketpair()
    other.close()
    with ours:
        os.dup2(ours.fileno(), descriptor, inheritable=False)


def keep_for_ever(inherited: object) -> None:
    """Prevents that this process ever finalizes an object, also at its exit: that would act on the parent's sockets."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _set_free(lock: threading.Lock) -> None:
    if lock.locked():
        lock.release()


def _cut_off_socket(inherited: socket.socket) -> None:
    cut_off(inherited.fileno())


def _in_child() -> None:
    for reference in _actions.keyrefs():
        owner = reference()
        if owner is not None:
            _actions[owner](owner)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
