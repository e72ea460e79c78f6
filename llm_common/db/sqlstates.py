"""Which failures of a database pass by themselves, so that the same statement may succeed a little later. Pure.

The codes are those of PostgreSQL (its appendix A) and PostgREST, and the HTTP status where a gateway answered instead.
Everybody who decides whether to try again asks here, by `DatabaseError.retryable`.
"""

import re
from typing import Final

__all__ = ["is_unavailable", "may_pass"]

#: Nothing can be asked of it now: no connection (08), no login (28), no such database (3D000), read-only (25006: a
#: failover, a full disk at Supabase), out of disk, memory or connections (53), shut down (57P0). PostgREST has no
#: connection (PGRST00x) or refuses the key (PGRST30x); a gateway refuses the key (401, 403), the bill (402), the pace
#: (429), does not know the project (404), or fails.
_UNAVAILABLE: Final = re.compile(
    r"08...|25006|28...|3D000|53...|57P0.|PGRST00.|PGRST30.|40[1234]|408|429|5\d\d", re.ASCII
)
#: The transaction was undone, and the next one may get through: a lock or a statement took too long (55P03, 57014), it
#: lost against others (40001, 40P01), its session ended (25P03, 25P04), nobody knows what became of it (40003), a disk
#: failed to read (58030).
_UNDONE: Final = frozenset({"25P03", "25P04", "40001", "40003", "40P01", "55P03", "57014", "58030"})
#: program_limit_exceeded is a limit of the statement's own, save for transaction ids, which a vacuum sets free.
_LIMIT: Final = "54000"
_OUT_OF_IDS: Final = re.compile(r"transaction ID|new XID|wraparound|multixact", re.IGNORECASE)


def is_unavailable(code: str) -> bool:
    """Whether the database cannot be asked anything now."""
    return _UNAVAILABLE.fullmatch(code) is not None


def may_pass(code: str, message: str = "") -> bool:
    """Whether the same statement may succeed a little later. `message` is the primary one of the error."""
    if code == _LIMIT:
        return _OUT_OF_IDS.search(message) is not None
    return code in _UNDONE or is_unavailable(code)
