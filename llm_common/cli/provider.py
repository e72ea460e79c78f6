"""`llm-common fake-provider`: the provider server of the tests, in the foreground."""

from typing import Annotated

import typer

from llm_common.cli.analyze import interruptible
from llm_common.cli.console import notes, write_text

__all__ = ["fake_provider"]


def fake_provider(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8089,
) -> None:
    """Serve OpenAI, OpenRouter, z.ai and Anthropic on loopback, with answers made from what is asked.

    Prints the environment variables that lead clients to it. Costs nothing and calls nobody.
    """
    from llm_common.testing import FakeProvider, serve_forever
    from llm_common.testing.analyst import answer_chat, answer_search

    def ready(provider: FakeProvider) -> None:
        notes.print("serving; point a client here with:")
        for name, value in provider.environment().items():
            write_text(f"export {name}={value}\n")

    interruptible(serve_forever(ready=ready, host=host, port=port, answer=answer_chat, search_answer=answer_search))
