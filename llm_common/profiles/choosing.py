"""Which profile suits a task: a plain rule that says why. Pure."""

import re
from dataclasses import dataclass

from llm_common.exceptions import InvalidInputError

__all__ = ["ProfileChoice", "Task", "select_profile"]

#: Somebody waits in front of a screen.
INTERACTIVE_SECONDS = 15.0
#: Long enough to be a document: what is asked about it needs to be held together.
LONG = 8_000
#: Short enough to be a plain question.
SHORT = 400
#: Where the instruction stands: before or behind the material.
_INSTRUCTION = 500

_DEMANDING = re.compile(
    r"\b(analy[sz]e|analysis|assess|compare|contrast|critique|debug|derive|design|diagnose|evaluate|explain why|plan"
    r"|pros and cons|prove|reason about|root cause|step[ -]by[ -]step|strategy|trade-?offs?|weigh)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done, as far as the choice of a profile goes.

    `text` is the instruction, with or without its material. `needs_tools` and `structured` say that the answer has a
    form to keep to. `max_seconds` is how long somebody will wait, None for no hurry. `demanding` says whether it takes
    thought; None lets the words decide. `profile` is the host's own choice.
    """

    text: str = ""
    needs_tools: bool = False
    structured: bool = False
    max_seconds: float | None = None
    demanding: bool | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class ProfileChoice:
    """The name of a profile, and why it."""

    profile: str
    reason: str


def select_profile(task: Task | str) -> ProfileChoice:
    """The profile for a task. The first of these that holds decides:

    1. `profile` is set: that one.
    2. `max_seconds` is 15 or less: `fast`.
    3. `demanding` is set, or it is None and one of a few words (analyse, compare, evaluate, prove, plan, debug, why
       not, step by step, ...) stands in the first or last 500 characters: `thinking`.
    4. `structured` or `needs_tools`: `instruct`.
    5. The text has more than 8,000 characters, and `demanding` is not False: `thinking`.
    6. It has at most 400: `fast`.
    7. Everything else: `instruct`.

    The words are English; for another language set `demanding`. The same task always gets the same profile.
    Raises `InvalidInputError` for `max_seconds` that cannot be right.
    """
    task = Task(text=task) if isinstance(task, str) else task
    if task.max_seconds is not None and not task.max_seconds > 0:
        raise InvalidInputError(f"max_seconds must be more than 0, got {task.max_seconds!r}")
    if task.profile is not None:
        return ProfileChoice(task.profile, "chosen by the caller")
    if task.max_seconds is not None and task.max_seconds <= INTERACTIVE_SECONDS:
        return ProfileChoice("fast", f"somebody waits, {task.max_seconds:g} seconds at most")
    return _by_content(task)


def _by_content(task: Task) -> ProfileChoice:
    if demand := _demand(task):
        return ProfileChoice("thinking", demand)
    if task.structured or task.needs_tools:
        form = "a schema" if task.structured else "tools"
        return ProfileChoice("instruct", f"the answer keeps to {form}")
    length = len(task.text)
    if length > LONG and task.demanding is None:
        return ProfileChoice("thinking", f"{length:,} characters are to be held together")
    if length <= SHORT:
        return ProfileChoice("fast", f"a short question: {length} characters")
    return ProfileChoice("instruct", f"nothing special: {length:,} characters")


def _demand(task: Task) -> str:
    if task.demanding is not None:
        return "the task is said to be demanding" if task.demanding else ""
    word = _DEMANDING.search(task.text[:_INSTRUCTION]) or _DEMANDING.search(task.text[-_INSTRUCTION:])
    return f"the text says {word[0].lower()!r}" if word else ""
