"""Constraints, variants, and the sentence that says why."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.db.functions.rollout import RolloutFlag
from llm_common.exceptions import InvalidInputError
from llm_common.rollout import Constraint, Rollout, Variant
from llm_common.rollout.assignment import bucket, is_in
from llm_common.rollout.decision import decide, pick_variant
from llm_common.rollout.environment import HostSetting

HALF = HostSetting(False, 50, "USE_X_PERCENTAGE")


async def path() -> str:
    return "new"


async def old() -> str:
    return "old"


@pytest.mark.parametrize(
    ("flag", "host", "unit", "said"),
    [
        (RolloutFlag(), HostSetting(True, 50, "USE_X"), "u", "old path, because USE_X switches it off."),
        (None, HALF, "u", "old path, because its database was never reached"),
        (RolloutFlag(enabled=False), HALF, "u", "old path, because it is paused."),
        (
            RolloutFlag(rolled_back_at=datetime(2026, 12, 1, tzinfo=UTC), rollback_reason="too slow"),
            HALF,
            "u",
            "old path, because it was rolled back at 2026-12-01T00:00:00+00:00: too slow.",
        ),
        (RolloutFlag(), HALF, "", "x: nobody gets the old path, because no unit was given."),
        (RolloutFlag(), HALF, "8", "because its bucket"),
        (RolloutFlag(percentage=100), HALF, "8", "within the 100 % of the database."),
    ],
)
def test_a_decision_says_why(flag, host, unit, said):
    """The strongest reason, in one sentence."""
    assert said in decide(flag, host, "x", unit).sentence("x", unit)


async def test_a_constraint_lets_in_whom_it_names():
    """Whoever does not meet all of them gets the old path at any percentage, and the reason names the field."""
    rules = [Constraint("environment", "IN", ["production"]), Constraint("age", "NUM_GTE", ["18"])]
    async with Rollout("x", environ={}, percentage=100, constraints=rules) as flags:
        assert await flags.enabled("u", {"environment": "production", "age": 30})
        for context in (None, {}, {"environment": "production"}, {"environment": "production", "age": "young"}):
            assert await flags.run("u", path, old, context) == "old"
        assert "the constraint on 'age' does not hold" in await flags.explain("u", {"environment": "production"})


async def test_variants_share_who_is_in():
    """By weight, sticky, independent of the percentage; nobody else has one."""
    variants = [Variant("a", 1), Variant("b", 3), Variant("c", 0)]
    async with Rollout("x", environ={}, percentage=50, variants=variants) as flags:
        found = [await flags.variant(number) for number in range(4_000)]
        assert found == [await flags.variant(number) for number in range(4_000)]
    inside = [name for name in found if name is not None]
    assert len(inside) == sum(is_in("x", number, 50) for number in range(4_000))
    assert inside.count("b") / len(inside) == pytest.approx(0.75, abs=0.03)
    assert "c" not in inside


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Constraint("x", "NOT_A_VALID_OPERATOR", ["1"]),
        lambda: Constraint("x", "REGEX", ["(a+)+$"]),
        lambda: Constraint("x", "NUM_GT", ["twelve"]),
        lambda: Constraint("x", "NUM_GT", ["nan"]),
        lambda: Constraint("x", "NUM_GT", []),
        lambda: Constraint("x", "SEMVER_GT", ["1.2"]),
        lambda: Constraint("x", "DATE_AFTER", ["soon"]),
        lambda: Constraint("x", "IN_CIDR", ["10.0.0.0/99"]),
        lambda: Constraint("x", "IN", "production"),
        lambda: Constraint("x", "IN", [1]),
        lambda: Rollout("x", environ={}, variants=[Variant("a"), Variant("a")]),
        lambda: Rollout("x", environ={}, variants=[Variant("a", -1), Variant("b")]),
        lambda: Rollout("x", environ={}, variants=[Variant("a", 0)]),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(wrong):
    """Not at the first call in production."""
    with pytest.raises(InvalidInputError):
        wrong()


@pytest.mark.parametrize(("unit", "context"), [("x" * 1_000_000, None), ("u", ["plan"]), ("u", "plan=pro")])
async def test_odd_units_and_contexts_are_refused(unit, context):
    """A megabyte is no id, and a list is no context; the message stays short."""
    async with Rollout("x", environ={}, percentage=100) as flags:
        with pytest.raises(InvalidInputError) as refusal:
            await flags.enabled(unit, context)
        assert len(str(refusal.value)) < 300


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text())
OPERATORS = st.sampled_from(["IN", "NOT_IN", "STR_CONTAINS", "NUM_LT", "SEMVER_GTE", "DATE_BEFORE", "IN_CIDR"])


@given(OPERATORS, SCALARS)
def test_any_value_of_a_context_is_judged(operator, value):
    """Whatever a host puts into a context, a constraint holds or does not, and inverted says the opposite."""
    values = {"NUM_LT": "5", "SEMVER_GTE": "1.2.3", "DATE_BEFORE": "2026-12-01", "IN_CIDR": "10.0.0.0/8"}
    rule = [values.get(operator, "a")]
    plain, turned = Constraint("x", operator, rule), Constraint("x", operator, rule, inverted=True)
    assert plain.holds({"x": value}) is not turned.holds({"x": value})


@pytest.mark.slow
def test_a_million_units_are_shared_as_the_percentage_says():
    """At 1, 10, 50 and 99 % within half a point; of two flags each has its own units."""
    buckets = [(bucket("one", str(unit)), bucket("other", str(unit))) for unit in range(1_000_000)]
    for percentage in (1, 10, 50, 99):
        share = sum(one <= percentage for one, _ in buckets) / len(buckets)
        assert share * 100 == pytest.approx(percentage, abs=0.5)
    both = sum(one <= 10 and other <= 10 for one, other in buckets) / len(buckets)
    assert both == pytest.approx(0.01, abs=0.001)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any), st.text(), st.text())
def test_a_variant_is_always_one_with_weight(weights, group, unit):
    """Whatever the weights and the unit."""
    name = pick_variant([Variant(str(number), weight) for number, weight in enumerate(weights)], group, unit)
    assert weights[int(name)] > 0
