"""The command line: `llm-common`. One module per command group."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run a command; what went wrong is said in a sentence on standard error.

    Exit codes: 0 done, 1 the work failed, 2 set something right first (input, key, model, database), 130 interrupted.
    """
    from llm_common._runtime.extras import require
    from llm_common.exceptions import ConfigurationError, LLMCommonError

    try:
        require("typer", "rich", extra="cli", what="the command line")
    except ConfigurationError as error:
        sys.exit(f"error: {error}")  # to standard error
    from llm_common.cli.app import app
    from llm_common.cli.console import route_logs
    from llm_common.cli.errors import exit_code, explain, explain_unforeseen

    route_logs()
    try:
        app()
    except LLMCommonError as error:
        explain(error)
        sys.exit(exit_code(error))
    except Exception as error:  # noqa: BLE001 (its text may be anybody's, so it leaves by the one door to the terminal)
        explain_unforeseen(error)
        sys.exit(1)
