"""A rollout that has nothing but the environment and code."""

import logging
from contextlib import suppress

import pytest

from llm_common.exceptions import ConfigurationError, InvalidInputError
from llm_common.rollout import RolledBack, Rollout


async def new() -> str:
    return "new"


async def old() -> str:
    return "old"


async def broken() -> str:
    raise RuntimeError("broken")


@pytest.mark.parametrize("made", [lambda **more: Rollout("x", **more), lambda **more: Rollout(None, "x", **more)])
async def test_a_flag_alone_is_enough(made, caplog):
    """The environment and code decide, and one warning says that nothing is shared."""
    async with made(environ={"USE_X_PERCENTAGE": "100"}) as flags:
        assert await flags.enabled("u")
        assert await flags.run("u", new, old) == "new"
        assert not await flags.enabled(None)
    async with made(environ={}, percentage=0) as flags:
        assert await flags.run("u", new, old) == "old"
    assert caplog.text.count("has no database") == 2


async def test_guardrails_hold_within_the_process(caplog):
    """Failures take the new path back until a reset, and one callback tells."""
    told: list[RolledBack] = []
    async with Rollout("x", environ={}, percentage=100, on_rollback=told.append) as flags:
        for _ in range(30):
            with suppress(RuntimeError):
                await flags.run("u", broken, old)
        await flags.flush()
        assert await flags.run("u", new, old) == "old"
        assert len(told) == 1
        assert (await flags.report()).new.errors == 30
        await flags.reset(50)
        assert await flags.percentage() == 50
        await flags.pause()
        assert await flags.percentage() == 0
        await flags.resume()
        await flags.set_percentage(None)
        assert await flags.percentage() == 100
    assert caplog.text.count("rolled back") == 1


async def test_a_typing_error_is_off_or_an_error(caplog):
    """A backend starts all the same, on its old path; a strict one does not start."""
    caplog.set_level(logging.WARNING)
    async with Rollout("x", environ={"USE_X": "ture"}, percentage=100) as flags:
        assert await flags.run("u", new, old) == "old"
        await flags.set_percentage(100)
        assert not await flags.enabled("u")
    assert caplog.text.count("USE_X='ture' is not a switch") == 1
    with pytest.raises(ConfigurationError, match="USE_X"):
        Rollout("x", environ={"USE_X": "ture"}, strict=True)


@pytest.mark.parametrize(
    "name", ["", "  ", None, "a\nb", "a\x00", "x" * 1_000_000, "postgresql://u:secret@h/d", "\u202ex"]
)
def test_a_flag_has_a_name(name):
    """Control characters, a megabyte, or a database's address in the wrong place are refused, and not repeated."""
    with pytest.raises(InvalidInputError, match="a flag needs a name") as refusal:
        Rollout(None, name)
    assert len(str(refusal.value)) < 200
    with pytest.raises(InvalidInputError, match="a flag needs a name"):
        Rollout("postgresql://u:secret@h/d")
