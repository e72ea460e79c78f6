"""Keeps a test run on this machine: no connection beyond loopback, no name looked up elsewhere."""

import ipaddress
import socket
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["NetworkBlockedError", "block_network"]

_LOCAL_NAMES: Final = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})


class NetworkBlockedError(RuntimeError):
    """A test tried to reach beyond loopback. Point it at the fake provider, or allow the host by name.

    No OSError on purpose: clients take those for a passing failure of the network, and retry.
    """


@contextmanager
def block_network(allow: Collection[str] = ()) -> Generator[None]:
    """Refuse connections and name look-ups beyond loopback and Unix sockets, in every thread of this process.

    `allow` names hosts (or addresses) that may be reached all the same. Code outside Python (libpq, say) is
    not covered. Nested use is fine.
    """
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    getaddrinfo, gethostbyname = socket.getaddrinfo, socket.gethostbyname
    allowed = {name.lower() for name in allow}

    def guarded_connect(self: socket.socket, address: Any, /) -> None:
        _check_address(self, address, allowed)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any, /) -> int:
        _check_address(self, address, allowed)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *flags_and_address: Any) -> int:
        _check_address(self, flags_and_address[-1], allowed)
        return sendto(self, data, *flags_and_address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _check_name(host, allowed)
        found = getaddrinfo(host, *args, **kwargs)
        if _text(host) in allowed:
            # Whoever may look a name up may also connect to what it stands for.
            allowed.update(str(entry[4][0]) for entry in found)
        return found

    def guarded_gethostbyname(hostname: str, /) -> str:
        _check_name(hostname, allowed)
        return gethostbyname(hostname)

    socket.socket.connect = guarded_connect
    socket.socket.connect_ex = guarded_connect_ex
    socket.socket.sendto = guarded_sendto
    socket.getaddrinfo = guarded_getaddrinfo
    socket.gethostbyname = guarded_gethostbyname
    try:
        yield
    finally:
        socket.socket.connect = connect
        socket.socket.connect_ex = connect_ex
        socket.socket.sendto = sendto
        socket.getaddrinfo = getaddrinfo
        socket.gethostbyname = gethostbyname


def _check_address(connection: socket.socket, address: Any, allowed: Collection[str]) -> None:
    if connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    host = _text(address[0])
    if not (_is_local(host) or host in allowed):
        raise NetworkBlockedError(
            f"connecting to {host}:{address[1]} is blocked in this test run: only loopback is reachable. Use the fake "
            f"provider, or allow it: block_network(allow=[{host!r}])"
        )


def _check_name(host: Any, allowed: Collection[str]) -> None:
    name = _text(host)
    if not (_is_local(name) or _address(name) is not None or name in allowed):
        raise NetworkBlockedError(
            f"looking up {name!r} is blocked in this test run: only local names are known. Use the fake provider, "
            f"or allow it: block_network(allow=[{name!r}])"
        )


def _text(host: Any) -> str:
    if host is None:
        return ""
    return (host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)).lower()


def _is_local(host: str) -> bool:
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
