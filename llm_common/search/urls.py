"""When two addresses name the same page. Pure."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = ["canonical_url"]

#: Parameters that say where a reader came from, not what is read.
_TRACKING = frozenset({"fbclid", "gclid", "dclid", "msclkid", "yclid", "igshid", "mc_cid", "mc_eid", "ref_src"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str) -> str:
    """The form under which equal pages compare equal; for comparing, not for fetching.

    https for http, host in lower case without `www.`, no default port, fragment, trailing slash or tracking
    parameters; the other parameters sorted.
    """
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").removeprefix("www.").rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    port = _port(parts.netloc)
    if port not in {None, _DEFAULT_PORTS.get(parts.scheme)}:
        host = f"{host}:{port}"
    query = sorted(
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name.lower() not in _TRACKING and not name.lower().startswith("utm_")
    )
    scheme = "https" if parts.scheme in _DEFAULT_PORTS else parts.scheme
    return urlunsplit((scheme, host, parts.path.rstrip("/"), urlencode(query), ""))


def _port(netloc: str) -> int | None:
    # SplitResult.port raises for a port that is no number; such an address is still an address.
    digits = netloc.rpartition("@")[2].rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else None
