"""`make docs`: write the generated pages."""

import asyncio
import tempfile

import psycopg

from llm_common.db import embedded
from llm_common.db.database import Database
from tests.docs.checksums import FOLDER, with_checksum
from tests.docs.pages import DOCS, generated_pages
from tests.docs.schema import ROLES, schema_of


async def _migrate(dsn: str) -> None:
    async with Database.connect(dsn) as db:
        await db.migrate()


for file in FOLDER.glob("*.sql"):
    file.write_bytes(with_checksum(file.name, file.read_bytes()))
for name, text in generated_pages().items():
    (DOCS / name).write_text(text)
with tempfile.TemporaryDirectory(prefix="llm-common-docs-") as folder:
    dsn = embedded.start(folder)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(ROLES)
    asyncio.run(_migrate(dsn))
    (DOCS / "schema.sql").write_text(schema_of(dsn))
    embedded.stop(folder)
