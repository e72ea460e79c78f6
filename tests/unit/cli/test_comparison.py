"""Who is worth choosing, and what is shown of it."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from llm_common.cli.comparison import COLUMNS, Contestant, cells, frontier, quality_of
from llm_common.db.functions.comparison import PipelineFigures

FIGURES = PipelineFigures(
    spec="legislation",
    code_version="1",
    models={},
    first_run=datetime(2026, 11, 26, tzinfo=UTC),
    runs=4,
    completed=3,
    failed=1,
    insufficient=1,
    pass_rate=2 / 3,
    quality=0.5,
    scored=3,
    left_out=1.25,
    rounds=1.0,
    cost_per_run=Decimal("0.012"),
    tokens_per_run=1234.5,
    p50_seconds=1.234,
    p95_seconds=None,
)
POINTS = st.dictionaries(
    st.sampled_from("ABCDEFG"), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=7
)


@given(POINTS)
def test_the_frontier_is_those_whom_nobody_beats(points):
    """Never empty; who is not on it is beaten by somebody who is."""
    best = frontier(points)
    assert best

    def beats(one, other):
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    for name, point in points.items():
        assert (name not in best) == any(beats(points[winner], point) for winner in best)


def test_quality_is_peoples_word_only_where_all_have_it():
    """A mean over the runs that somebody happened to score says nothing about the others."""
    scored, half = Contestant("A", {}, FIGURES), Contestant("B", {}, replace(FIGURES, scored=2))
    assert quality_of([scored]) == quality_of([scored, Contestant("C", {}, None)]) == "scored"
    assert quality_of([scored, half]) == quality_of([]) == "passed"
    nothing_done = Contestant("D", {}, replace(FIGURES, completed=0, scored=0))
    assert quality_of([nothing_done]) == "passed"


def test_every_column_has_a_cell():
    """What is not known is a dash, and bills that became no run count as failed."""
    assert cells(Contestant("A", {}, FIGURES, unstarted=2)) == (
        "4", "3", "1", "67%", "0.50 (3)", "1.2", "1.0", "$0.012000", "1,234", "1.23", "-",
    )  # fmt: skip
    empty = cells(Contestant("B", {}, None, unstarted=5))
    assert len(empty) == len(COLUMNS)
    assert empty[:3] == ("0", "5", "-")
