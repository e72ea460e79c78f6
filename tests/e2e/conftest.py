"""What tests of the command line share."""

from collections.abc import Generator

import pytest

from llm_common.testing import FakeProvider
from llm_common.testing.analyst import answer_chat, answer_search


@pytest.fixture
def online() -> Generator[FakeProvider]:
    """The scripted provider as if it were the real ones: keys are set, so a command is not the demo."""
    with FakeProvider.serve_in_thread(answer=answer_chat, search_answer=answer_search) as provider:
        yield provider
