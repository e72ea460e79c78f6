"""How deep the way of a call is: who reads a traceback, or a profile, has to walk it."""

from tests.support.frames import frames


async def test_a_call_is_not_deep(dsn: str) -> None:
    """At most nine frames of ours from `chat` to the request, and eight in the task that reserves."""
    found = await frames(dsn)
    assert found["request"][0] == "LLMClient.chat"
    assert len(found["request"]) <= 9
    assert 0 < len(found["reserve"]) <= 8
