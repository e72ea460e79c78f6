"""Which profile suits a task."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidInputError
from llm_common.profiles import ProfileChoice, Task, select_profile

MEDIUM = "Rewrite this letter in a friendly tone. " * 20
LONG = "A clause. " * 1000


@pytest.mark.parametrize(
    ("task", "profile", "reason"),
    [
        (Task(text="Analyse it", profile="bill_summary", max_seconds=1), "bill_summary", "chosen by the caller"),
        (Task(text="Analyse it", max_seconds=15), "fast", "somebody waits, 15 seconds at most"),
        (Task(text="Analyse it", max_seconds=15.1), "thinking", "the text says 'analyse'"),
        ("Please ANALYZE this bill.", "thinking", "the text says 'analyze'"),
        (f"{LONG} What are the pros and cons?", "thinking", "the text says 'pros and cons'"),
        (Task(text="Who is it?", demanding=True), "thinking", "the task is said to be demanding"),
        (Task(text="Compare them", structured=True), "thinking", "the text says 'compare'"),
        (Task(text="Compare them", structured=True, demanding=False), "instruct", "the answer keeps to a schema"),
        (Task(text="What is the time?", needs_tools=True), "instruct", "the answer keeps to tools"),
        (LONG, "thinking", "10,000 characters are to be held together"),
        (Task(text=LONG, demanding=False), "instruct", "nothing special: 10,000 characters"),
        (f"{LONG[:4000]} we plan to move {LONG[:3000]}", "instruct", "nothing special: 7,017 characters"),
        ("What is a bill?", "fast", "a short question: 15 characters"),
        ("", "fast", "a short question: 0 characters"),
        (MEDIUM, "instruct", "nothing special: 800 characters"),
        ("The planet of the apes", "fast", "a short question: 22 characters"),
    ],
)
def test_the_rule_is_the_one_that_is_written_down(task, profile, reason):
    """Each line of it, in its order, with the reason that it gives."""
    assert select_profile(task) == ProfileChoice(profile, reason)


@pytest.mark.parametrize(
    ("length", "profile"), [(400, "fast"), (401, "instruct"), (8000, "instruct"), (8001, "thinking")]
)
def test_the_limits_of_length(length, profile):
    """400 is still short, 8,000 not yet long."""
    assert select_profile("x" * length).profile == profile


TASKS = st.builds(
    Task,
    text=st.text(max_size=50) | st.sampled_from([LONG, MEDIUM, "prove it"]),
    needs_tools=st.booleans(),
    structured=st.booleans(),
    max_seconds=st.none() | st.floats(0.1, 100),
    demanding=st.none() | st.booleans(),
    profile=st.none() | st.sampled_from(["mine", "fast"]),
)


@given(TASKS)
def test_every_task_gets_one_profile_with_a_reason_and_always_the_same(task):
    """A host's own choice wins over everything, and being in a hurry over the rest."""
    choice = select_profile(task)
    assert choice == select_profile(task)
    assert choice.reason
    if task.profile is not None:
        assert choice.profile == task.profile
    else:
        assert choice.profile in {"thinking", "fast", "instruct"}
        assert task.max_seconds is None or task.max_seconds > 15 or choice.profile == "fast"


def test_a_wait_that_makes_no_sense_is_refused():
    """It is more than nothing."""
    with pytest.raises(InvalidInputError, match="max_seconds"):
        select_profile(Task(text="Hi", max_seconds=0))
