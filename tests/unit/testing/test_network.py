"""No test reaches beyond this machine."""

import _socket
import asyncio
import socket

import aiohttp
import pytest

from llm_common.testing import FakeProvider, NetworkBlockedError, block_network

#: TEST-NET-1: reserved for documentation, nobody answers there.
ELSEWHERE = ("192.0.2.1", 80)


@pytest.fixture(autouse=True)
def _without_the_suites_own_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole suite runs under a guard, which would hide what the one under test lets through."""
    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, getattr(_socket.socket, method))


@pytest.mark.parametrize("address", [ELSEWHERE, ("8.8.8.8", 53)])
@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connections_elsewhere_are_refused(method: str, address: tuple[str, int]) -> None:
    """A connection beyond loopback is refused before a packet is sent, and the message says where it went."""
    with block_network(), socket.socket() as connection:
        connection.settimeout(0.01)
        with pytest.raises(NetworkBlockedError, match=address[0]):
            getattr(connection, method)(address)


def test_ipv6_is_covered() -> None:
    """IPv6 addresses are judged alike, those that wrap an IPv4 address too."""
    with block_network(), socket.socket(socket.AF_INET6) as connection:
        for address in ("2001:db8::1", "::ffff:192.0.2.1"):
            with pytest.raises(NetworkBlockedError):
                connection.connect((address, 80))
        with pytest.raises(OSError, match=r".+"):  # let through: nobody listens there
            connection.connect(("::ffff:127.0.0.1", 9))


@pytest.mark.parametrize(("lookup", "more"), [("getaddrinfo", (80,)), ("gethostbyname", ())])
def test_names_are_not_looked_up(lookup: str, more: tuple[int, ...]) -> None:
    """No name server hears of a name that is not local."""
    with block_network(), pytest.raises(NetworkBlockedError, match=r"api\.example\.com"):
        getattr(socket, lookup)("api.example.com", *more)


def test_datagrams_elsewhere_are_refused() -> None:
    """A datagram needs no connection, and goes nowhere all the same."""
    with block_network(), socket.socket(type=socket.SOCK_DGRAM) as sender:
        with pytest.raises(NetworkBlockedError):
            sender.sendto(b"x", ELSEWHERE)
        with pytest.raises(NetworkBlockedError):
            sender.sendto(b"x", 0, ELSEWHERE)
        assert sender.sendto(b"x", ("127.0.0.1", 9)) == 1


def test_local_names_and_addresses_are_free() -> None:
    """What is on this machine can be looked up, and nothing is where only an address is given."""
    with block_network():
        assert socket.getaddrinfo("localhost", 80)
        assert socket.getaddrinfo(None, 80)
        assert socket.getaddrinfo(b"192.0.2.1", 80)
        assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"


def test_unix_sockets_are_free() -> None:
    """Unix sockets go nowhere."""
    with block_network():
        left, right = socket.socketpair()
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        left.close()
        right.close()
        with socket.socket(socket.AF_UNIX) as connection, pytest.raises(FileNotFoundError):
            connection.connect("/nonexistent/socket")


async def test_loopback_works_and_clients_are_stopped() -> None:
    """The fake provider is reachable; an async client that goes elsewhere gets the clear error."""
    with block_network():
        async with FakeProvider() as provider, aiohttp.ClientSession() as session:
            async with session.get(provider.url) as response:
                assert response.status == 404
            with pytest.raises(NetworkBlockedError):
                await session.get("http://192.0.2.1/")
            with pytest.raises(NetworkBlockedError):
                await session.get("http://api.example.com/")


async def test_other_threads_are_covered() -> None:
    """The guard holds in every thread."""
    with block_network(), socket.socket() as connection, pytest.raises(NetworkBlockedError):
        await asyncio.to_thread(connection.connect, ELSEWHERE)


def test_allowed_hosts() -> None:
    """A host that is allowed by name passes the guard: what fails then, fails on the way."""
    with block_network(allow=["192.0.2.1"]), socket.socket() as connection:
        connection.settimeout(0.001)
        with pytest.raises(OSError, match=r".+"):
            connection.connect(ELSEWHERE)
        with pytest.raises(NetworkBlockedError):
            connection.connect(("192.0.2.2", 80))


def test_allowed_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may look a name up may connect to what it stands for, and only to that."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 5432))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    with block_network(allow=["DB.example.com"]), socket.socket() as connection:
        connection.settimeout(0.001)
        assert socket.getaddrinfo("db.example.com", 5432) == found
        with pytest.raises(OSError, match=r".+"):
            connection.connect(("192.0.2.7", 5432))
        with pytest.raises(NetworkBlockedError):
            connection.connect(ELSEWHERE)


def test_the_guard_ends() -> None:
    """After the block everything is as before, also when it is nested."""

    def guarded() -> tuple[object, ...]:
        methods = (socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto)
        return (*methods, socket.getaddrinfo, socket.gethostbyname)

    before = guarded()
    with block_network():
        with block_network(allow=["192.0.2.1"]):
            pass
        assert socket.socket.connect is not before[0]
    assert guarded() == before
