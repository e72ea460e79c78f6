"""`docs/schema.sql`: all that our migrations make, as `pg_dump` shows it."""

import re
import subprocess

from llm_common.db.cluster import programs

__all__ = ["ROLES", "schema_of"]

#: Supabase's API roles, which our grants and policies name.
ROLES = """
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
"""

# Comments, psql's commands, the session's settings, and what the host grants on its schema.
_NOISE = re.compile(r"--|\\|SET |SELECT pg_catalog\.set_config|.* SCHEMA public\b")
_HEAD = """\
-- What the migrations come to: every table, index, constraint, policy and function, as pg_dump shows them.
-- Written by `make docs`, and compared with a migrated database by a test.
"""


def schema_of(dsn: str) -> str:
    """The schema of a migrated database, without what depends on the server's version, its roles or chance."""
    command = [programs() / "pg_dump", "--schema-only", "--no-owner", "--schema=public", "-d", dsn]
    dump = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    kept = [line for line in dump.splitlines() if not _NOISE.match(line)]
    return _HEAD + re.sub(r"\n{3,}", "\n\n", "\n" + "\n".join(kept).strip()) + "\n"
