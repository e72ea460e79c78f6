"""`docs/faults.md`: the fault matrix as one table."""

from collections.abc import Iterator, Sequence

from tests.docs.tables import table
from tests.faults.llm.fault_matrix import ATTEMPTS, CELLS, ENDPOINTS, ROWS, WAYS, Endpoint, Expected, Outcome, Row, Way

__all__ = ["faults_page"]

_HEAD = ("Fault", "Asked by", "Over", "It strikes once", "It strikes each time")
_ABOUT = f"""# What comes of each fault

One line for each fault and each way of asking; {len(CELLS)} cells, each run by
`tests/faults/llm/test_fault_matrix.py` on real HTTP and a real ledger, against what this table says. A call is given
at most {ATTEMPTS} requests per model here, and one model; with a chain, the next model is asked where this one has
failed for good.

*Requests* are those that the provider saw. *No row*: the reserve was given back, nothing was charged. A row's cost is
*counted* where the provider told usage or price, and *bound* where a part of it is the most that a request can cost,
since the provider may bill a request whose answer never arrived. Every call ends within its own deadline.

`direct` and `litellm` are the wires. `StreamInterruptedError` names in brackets what interrupted it: text was handed
out before, so nobody is asked again.

"""


def faults_page() -> str:
    lines = [line for row in ROWS for line in _lines(row)]
    return _ABOUT + table(_HEAD, lines)


def _lines(row: Row) -> Iterator[tuple[str, ...]]:
    groups: dict[tuple[tuple[Expected, tuple[Endpoint, ...]], ...], list[Way]] = {}
    for way in WAYS:
        groups.setdefault(_split(row, way), []).append(way)
    for outcomes, ways in groups.items():
        asked = "each" if len(ways) == len(WAYS) else ", ".join(ways)
        for expected, endpoints in outcomes:
            once, always = _told(expected.once), _told(expected.always)
            over = _where(endpoints) + "".join(f" ({why})" for why in _reasons(row, ways, endpoints))
            yield (row.name, asked, over, "the same" if once == always else once, always)


def _split(row: Row, way: Way) -> tuple[tuple[Expected, tuple[Endpoint, ...]], ...]:
    """Who has which outcome, the most first."""
    found: dict[Expected, list[Endpoint]] = {}
    for endpoint in ENDPOINTS:
        found.setdefault(row.expected(way, endpoint), []).append(endpoint)
    return tuple((expected, tuple(found[expected])) for expected in sorted(found, key=lambda each: -len(found[each])))


def _where(endpoints: Sequence[Endpoint]) -> str:
    return "all" if len(endpoints) == len(ENDPOINTS) else ", ".join(endpoint.name for endpoint in endpoints)


def _reasons(row: Row, ways: Sequence[Way], endpoints: Sequence[Endpoint]) -> list[str]:
    names = {endpoint.name for endpoint in endpoints}
    return [but.why for but in row.but if but.way in ways and set(but.where) == names]


def _told(outcome: Outcome) -> str:
    result = outcome.result if outcome.result == "an answer" else f"`{outcome.result}`"
    requests = "1 request" if outcome.requests == 1 else f"{outcome.requests} requests"
    paid = "no row" if outcome.row is None else f"row `{outcome.row}`, {outcome.cost}"
    return f"{result}; {requests}; {paid}"
