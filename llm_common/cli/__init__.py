"""The command line: `llm-common`. One module per command group."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run a command; what went wrong is said in a sentence on standard error.

    Exit codes: 0 done, 1 the work failed, 2 set something right first (input, key, model, database), 130 interrupted.
    """
    from llm_common.cli.app import app
    from llm_common.cli.errors import exit_code, explain
    from llm_common.exceptions import LLMCommonError

    try:
        app()
    except LLMCommonError as error:
        explain(error)
        sys.exit(exit_code(error))
