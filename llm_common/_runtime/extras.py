"""Libraries that only some hosts need: what is missing is said in one sentence, with the extra that has it."""

from importlib.util import find_spec

from llm_common.exceptions import ConfigurationError

__all__ = ["require"]


def require(*modules: str, extra: str, what: str) -> None:
    """Raise `ConfigurationError` unless these top-level modules are installed. `what` is what needs them."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise ConfigurationError(
            f"{what} needs {' and '.join(missing)}, not installed here: pip install -e 'packages/llm-common[{extra}]'"
        )
