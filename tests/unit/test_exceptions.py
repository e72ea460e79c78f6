"""The tree of errors, as it is drawn at the top of the module."""

import copy
import inspect
import pickle
import re
from decimal import Decimal

import pytest

from llm_common import exceptions
from llm_common.exceptions import BudgetExceededError, LLMCommonError, LLMError

_CLASSES = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, LLMCommonError)
}


def drawn() -> dict[str, str]:
    """Name → name of its parent, read from the picture."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        match = re.match(r"(?P<lines>[│├└─ ]*)(?P<name>[A-Z]\w+)", line)
        if match and match["name"] in _CLASSES:
            depth = len(match["lines"]) // 4
            del path[depth:]
            if path:
                parents[match["name"]] = path[-1]
            path.append(match["name"])
    return parents


def test_the_picture_is_the_tree() -> None:
    """Each error is drawn once, below the one it derives from."""
    actual = {name: value.__mro__[1].__name__ for name, value in _CLASSES.items() if value is not LLMCommonError}
    assert drawn() == actual


def test_every_error_is_public() -> None:
    """`__all__` has every error."""
    assert set(_CLASSES) <= set(exceptions.__all__)


@pytest.mark.parametrize("error_type", _CLASSES.values(), ids=lambda error_type: error_type.__name__)
def test_an_error_survives_copying_and_pickling(error_type: type[LLMCommonError]) -> None:
    """Process pools and task queues pickle errors; message and figures have to come along."""
    error = error_type("what happened")
    error.__dict__["figure"] = 1
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is error_type
        assert str(twin) == "what happened"
        assert vars(twin) == vars(error)


@pytest.mark.parametrize("error_type", _CLASSES.values(), ids=lambda error_type: error_type.__name__)
def test_an_error_says_what_it_means(error_type: type[LLMCommonError]) -> None:
    """The docstring is the explanation that a host's developer reads."""
    assert error_type.__doc__
    assert error_type.__doc__.strip().split("\n")[0].endswith((".", ":"))


def test_figures_are_kept() -> None:
    """What the constructor takes is there as attributes."""
    error = BudgetExceededError("no", budget="day", limit_usd=Decimal(1), model="m", attempts=[])
    assert (error.budget, error.limit_usd, error.model, error.attempts) == ("day", Decimal(1), "m", ())


def test_only_what_may_pass_is_retryable() -> None:
    """Errors of the request itself are not sent again, and a refused budget does not try the next model."""
    retryable = {name for name, value in _CLASSES.items() if issubclass(value, LLMError) and value.retryable}
    assert retryable == {
        "ConnectionFailedError",
        "DeadlineExceededError",
        "EmptyAnswerError",
        "InvalidAnswerError",
        "ProviderError",
        "RateLimitError",
    }
    assert not BudgetExceededError.fallback
