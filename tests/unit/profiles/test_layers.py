"""Settings in layers."""

from hypothesis import given
from hypothesis import strategies as st

from llm_common.profiles.layers import Setting, flat, laid_over, plain, tree_of

KEYS = st.sampled_from("abc")
TABLES = st.dictionaries(
    KEYS, st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
)


def merged(base, over):
    """The rule, told once more and in another way: what `over` has wins, tables are merged."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys()}
    return {**base, **over, **both}


@given(TABLES, TABLES, TABLES)
def test_layers_merge_table_by_table(first, second, third):
    """A later layer changes what it names, and nothing beside it."""
    tree = laid_over(laid_over(tree_of(first, "1"), tree_of(second, "2")), tree_of(third, "3"))
    assert plain(tree) == merged(merged(first, second), third)


@given(TABLES, TABLES)
def test_each_value_knows_its_place(below, above):
    """A value is from the upper layer exactly where that one has it."""
    tree = laid_over(tree_of(below, "below"), tree_of(above, "above"))
    upper = flat(tree_of(above, "above"))
    assert {key for key, setting in flat(tree).items() if setting.origin == "above"} == set(upper)
    assert {key: setting for key, setting in flat(tree).items() if key in upper} == upper


@given(TABLES, TABLES)
def test_a_layer_leaves_the_one_below_as_it_was(below, above):
    """Two overlays can lie over the same base."""
    base = tree_of(below, "below")
    laid_over(base, tree_of(above, "above"))
    assert base == tree_of(below, "below")


def test_a_list_is_one_value():
    """A chain of models is replaced, not continued."""
    tree = laid_over(tree_of({"models": ["a", "b"]}, "1"), tree_of({"models": ["c"]}, "2"))
    assert tree == {"models": Setting(["c"], "2")}
