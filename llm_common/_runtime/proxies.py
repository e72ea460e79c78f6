"""Which proxy an address is reached through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, less what `NO_PROXY` names.

By hand, as curl, requests and httpx read them: aiohttp and `urllib.request` know in `NO_PROXY` neither ports nor
networks nor an address of IPv6 in brackets, and hand on a proxy without a scheme as it is.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from llm_common.exceptions import ConfigurationError

__all__ = ["Proxy", "proxy_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """`variable` is where it stands; its URL may have a password in it. `host` is its address without one."""

    url: str = field(repr=False)
    variable: str
    host: str


def proxy_of(base_url: str) -> Proxy | None:
    """The proxy for an address; None where it is reached directly.

    Raises `ConfigurationError` that names the variable for a proxy that cannot be used.
    """
    target = urlsplit(base_url)
    settings = getproxies()
    name = next((name for name in (target.scheme, "all") if settings.get(name)), None)
    if name is None or _is_exempt(target, settings.get("no", "")):
        return None
    return _proxy(f"{name.upper()}_PROXY", settings, name)


def _proxy(variable: str, settings: Mapping[str, str], name: str) -> Proxy:
    value = settings[name].strip()
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, SplitResult("", "", "", "", "")
    if parts.scheme not in _DEFAULT_PORTS or not host:
        # Without the value: it may have a password in it.
        kind = f"is a {parts.scheme}:// proxy" if host and parts.scheme else "is no address"
        raise ConfigurationError(
            f"the environment variable {variable} {kind}; write it as http://host:port, or name the provider's host in "
            "NO_PROXY to reach it directly. Nothing was sent."
        )
    return Proxy(url, variable, f"{host}:{port or _DEFAULT_PORTS[parts.scheme]}")


def _is_exempt(target: SplitResult, exceptions: str) -> bool:
    host = (target.hostname or "").rstrip(".")
    port = target.port or _DEFAULT_PORTS.get(target.scheme)
    return any(_names(entry, host, port) for entry in exceptions.replace(",", " ").split())


def _names(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of NO_PROXY is about a host: `*`, a name, a domain, an address, a network, also with a port."""
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in_network(host, entry)
    name, its_port = _split(entry.lower())
    if its_port is not None and its_port != str(port):
        return False
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        domain = name.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":") or None
    name, colon, port = entry.partition(":")
    return (entry, None) if ":" in port else (name, port if colon else None)


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False
