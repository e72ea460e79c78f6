"""What several commands take, and the database that they mean by it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llm_common.exceptions import ConfigurationError
from llm_common.settings import PROVIDER_KEYS, Settings

if TYPE_CHECKING:
    from llm_common.db import Database

__all__ = [
    "DEMO_PROJECT",
    "AsCsv",
    "AsJson",
    "DataDir",
    "DatabaseUrl",
    "RawCsv",
    "command_database",
    "data_folder",
    "default_project",
    "demo_folder",
    "has_no_provider",
    "key_variables",
    "require_provider",
]

#: Who pays for the demo, so that no report and no budget takes its prices for money.
DEMO_PROJECT: Final = "demo"

DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="Postgres to use; default: DATABASE_URL, else the embedded Postgres.", show_default=False),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded Postgres; default: LLM_COMMON_DATA_DIR, else the folder for user data.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="The table alone, as CSV that a spreadsheet opens safely.")]
RawCsv = Annotated[
    bool, typer.Option("--raw-csv", help="The same for programs: texts that a spreadsheet would run stay as they are.")
]


def require_provider(settings: Settings, what: str) -> None:
    """Raise `ConfigurationError` where nobody real would answer. `what` is what that would fill with inventions."""
    if not has_no_provider(settings):
        return
    raise ConfigurationError(
        f"no provider's key is set, and {what} is never made up: set {key_variables()}; for a provider that only "
        "LiteLLM knows, its key and LLM_COMMON_MODEL"
    )


def key_variables() -> str:
    """The variables of the keys, in words."""
    *names, last = (variables[0] for variables in PROVIDER_KEYS.values())
    return f"{', '.join(names)} or {last}"


def command_database(url: str | None, data_dir: Path | None) -> "Database":
    """The database of a command; with no server named the embedded one in `data_folder`."""
    from llm_common.db import Database

    if url or (data_dir is None and Settings.from_environment().database_url):
        return Database.connect(url)
    return Database.connect(data_dir=data_folder(data_dir))


def default_project() -> str:
    """Whose costs are meant where no project is named: the demo's where nobody real could answer."""
    settings = Settings.from_environment()
    return DEMO_PROJECT if has_no_provider(settings) and settings.database_url is None else settings.project


def data_folder(data_dir: Path | None) -> Path:
    """Where the embedded Postgres keeps its data. Without a provider it is the demo's, apart from what is real."""
    return demo_folder(data_dir) if has_no_provider(Settings.from_environment()) else _folder(data_dir)


def demo_folder(data_dir: Path | None) -> Path:
    """Where the demo keeps what it made up."""
    return _folder(data_dir) / "demo"


def _folder(data_dir: Path | None) -> Path:
    from llm_common.db import embedded

    return data_dir or embedded.default_data_dir()


def has_no_provider(settings: Settings) -> bool:
    """Whether nobody real could answer: no key, no address and no model is set."""
    return not (settings.keys or settings.urls or settings.model)
