"""`docs/schema.sql` is what a migrated database holds."""

from pathlib import Path

from tests.docs.schema import schema_of

PAGE = Path(__file__).parents[3] / "docs" / "schema.sql"


def test_the_schema_page_is_current(dsn: str) -> None:
    """The committed page is the dump of a database that was migrated now."""
    assert PAGE.read_text() == schema_of(dsn), "docs/schema.sql is not current: run `make docs` and commit it"
