"""Which engine carries out many runs: by its name, or one's own; what is missing is named before anything is done."""

import asyncio
import pickle
import subprocess
import sys
from typing import Any

import pytest

from llm_common.exceptions import BudgetExceededError, ConfigurationError, InvalidInputError, PipelineError
from llm_common.pipeline.engines import engine_of
from llm_common.pipeline.engines.local import AsyncioEngine
from llm_common.pipeline.engines.ray import RayEngine
from llm_common.pipeline.engines.ray_actor import portable


def test_engines_by_name() -> None:
    """A name gives its engine, and Ray's gets the factory; an engine of one's own is taken as it is."""
    assert isinstance(engine_of("asyncio", None), AsyncioEngine)
    assert engine_of("ray", "app.analysis:pipeline") == RayEngine("app.analysis:pipeline")
    own = RayEngine("app.analysis:pipeline", runs_per_actor=5, num_cpus=1)
    assert engine_of(own, None) is own


@pytest.mark.parametrize(
    ("engine", "factory", "told"),
    [
        ("ray", None, 'needs factory="module:function"'),
        ("asyncio", "app:pipeline", "factory='app:pipeline' is for engine=\"ray\""),
        ("dask", None, "engine 'dask' is unknown; there are asyncio, ray"),
    ],
)
def test_what_does_not_go_together_is_told(engine: Any, factory: str | None, told: str) -> None:
    """Ray needs a factory, others take none, and an unknown engine names the known ones."""
    with pytest.raises(InvalidInputError, match=told):
        engine_of(engine, factory)


def test_settings_of_ray_are_checked() -> None:
    """An actor carries at least one run, and takes no less than nothing of its node."""
    with pytest.raises(InvalidInputError, match="runs_per_actor must be at least 1"):
        RayEngine("app:pipeline", runs_per_actor=0)
    with pytest.raises(InvalidInputError, match="num_cpus"):
        RayEngine("app:pipeline", num_cpus=-1)


async def test_events_do_not_travel() -> None:
    """A callback that would never be called is refused."""
    pipeline: Any = None
    with pytest.raises(InvalidInputError, match="on_event"):
        async with RayEngine("app:pipeline").opened(pipeline, concurrency=1, on_event=lambda _: None):
            pass


async def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    pipeline: Any = None
    with pytest.raises(ConfigurationError, match=r"pip install -e 'packages/llm-common\[ray\]'"):
        async with RayEngine("app:pipeline").opened(pipeline, concurrency=1, on_event=None):
            pass


def test_ray_is_loaded_where_it_is_used() -> None:
    """Naming the engine loads nothing heavy."""
    program = "import sys; from llm_common.pipeline import RayEngine; RayEngine('a:b'); print('ray' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


class Stubborn(Exception):  # noqa: N818
    def __init__(self, one: str, *, two: str) -> None:
        super().__init__(one + two)


def test_an_error_travels_or_is_named() -> None:
    """Our errors travel with fields and notes; one that cannot be pickled is named, without its text."""
    error = BudgetExceededError("no", budget="day")
    error.add_note("run 1 is queued")
    twin = pickle.loads(pickle.dumps(portable(error)))
    assert (type(twin), twin.budget, twin.__notes__) == (BudgetExceededError, "day", ["run 1 is queued"])
    named = portable(Stubborn("secret", two="!"))
    assert isinstance(named, PipelineError)
    assert "Stubborn" in str(named)
    assert "secret" not in str(named)
    loop = asyncio.new_event_loop()
    assert isinstance(portable(RuntimeError(loop)), PipelineError)
    loop.close()
