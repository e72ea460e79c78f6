"""Web addresses from elsewhere: which are taken, whose they are, and when two name the same page. Pure."""

import re
import unicodedata
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import idna

from llm_common.search.markup import INVISIBLE

__all__ = ["ascii_domain", "canonical_url", "checked_url", "domain_of", "host_of", "is_within"]

#: Parameters that say where a reader came from, not what is read.
_TRACKING = re.compile(
    r"utm_.*|hsa_.*|mtm_.*|pk_(?:campaign|cid|content|kwd|keyword|medium|source)|piwik_(?:campaign|keyword|kwd)"
    r"|(?:fb|dc|gc|msc|y|ysc|tt|tw|rb_|w)clid|gclsrc|gad_(?:source|campaignid)|[gw]braid|srsltid|_g[al]|igshid|igsh"
    r"|mc_[ce]id|ref_src|li_fat_id|mkt_tok|_hs(?:enc|mi)|__hs(?:fp|sc|tc)|hsctatracking|vero_(?:id|conv)"
    r"|oly_(?:anon|enc)_id|_openstat|wickedid|epik|mibextid|__s|ml_subscriber(?:_hash)?|s_cid|spm|_branch_match_id",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_WHITESPACE = " \t\r\n\f\v"
#: Join letters in Persian and Indic words, so they may stand in a path.
_JOINERS = "\u200c\u200d"
_NOT_IN_ADDRESS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
#: What browsers take for the end of a host, but `urlsplit` does not, and what no host has.
_NOT_IN_AUTHORITY = frozenset('\\<>"^`{|}%')


def checked_url(url: str) -> str:
    """An http or https address without blanks around it. Raises `ValueError` for what leads nowhere or misleads.

    Refused are blanks, controls and invisible characters within it, because readers and programs would disagree on
    where it leads.
    """
    address = url.strip(_WHITESPACE)
    parts = urlsplit(address)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("a result's url must be an http or https address")
    if any(unicodedata.category(sign) in _NOT_IN_ADDRESS and sign not in _JOINERS for sign in address):
        raise ValueError("a result's url has a blank, a control or an invisible character in it")
    if _NOT_IN_AUTHORITY.intersection(parts.netloc.rpartition("@")[2]) or "\\" in parts.netloc:
        raise ValueError("a result's url has a host that is none")
    if not parts.netloc.rpartition("@")[2].startswith("["):
        ascii_domain(parts.hostname)
    return address


def ascii_domain(name: str) -> str:
    """A host name as DNS has it: lower case, IDNA, without a final dot. Raises `ValueError` for what is none.

    Like browsers by UTS 46, so that `faß.de` is not `fass.de`; what that does not take (emoji) by IDNA of 2003.
    """
    plain = (name if name.isascii() else _encoded(name)).lower().removesuffix(".")
    if not all(_LABEL.fullmatch(label) for label in plain.split(".")):
        raise ValueError(f"{name!r:.100} is not a host name")
    return plain


def _encoded(name: str) -> str:
    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        if INVISIBLE.search(name):
            raise
        return name.encode("idna").decode()


def host_of(url: str) -> str:
    """The host of an address as `ascii_domain` has it; "" where there is none."""
    try:
        host = urlsplit(url.strip(_WHITESPACE)).hostname or ""
        return host if ":" in host else ascii_domain(host)
    except ValueError:
        return ""


def domain_of(url: str) -> str:
    """The host without `www.`."""
    return host_of(url).removeprefix("www.")


def is_within(domain: str, parent: str) -> bool:
    """Whether a domain is `parent` or below it; both as `domain_of` gives them, `www.` apart."""
    parent = parent.removeprefix("www.")
    return domain == parent or domain.endswith(f".{parent}")


def canonical_url(url: str) -> str:
    """The form under which equal pages compare equal; for comparing, not for fetching.

    https for http, host as `domain_of` has it, no default port, fragment, trailing slash or tracking parameters; the
    other parameters sorted.
    """
    parts = urlsplit(url.strip(_WHITESPACE))
    host = domain_of(url) or (parts.hostname or "").removeprefix("www.").rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    port = _port(parts.netloc)
    if port not in {None, _DEFAULT_PORTS.get(parts.scheme)}:
        host = f"{host}:{port}"
    query = sorted(
        (name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.fullmatch(name)
    )
    scheme = "https" if parts.scheme in _DEFAULT_PORTS else parts.scheme
    return urlunsplit((scheme, host, parts.path.rstrip("/"), urlencode(query), ""))


def _port(netloc: str) -> int | None:
    # SplitResult.port raises for a port that is no number; such an address is still an address.
    digits = netloc.rpartition("@")[2].rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else None
