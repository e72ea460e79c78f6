"""The line of each migration that writes its name and checksum into the database."""

import re
from pathlib import Path

from llm_common.db.migrate import Migration

__all__ = ["FOLDER", "with_checksum"]

FOLDER = Path(__file__).parents[2] / "migrations"
_LINE = re.compile(rb"^SELECT public\.llm_common_record\(.*\);\n", re.MULTILINE)


def with_checksum(name: str, sql: bytes) -> bytes:
    """The file with the line that belongs to its content."""
    line = f"SELECT public.llm_common_record('{name}', '{Migration(name, sql).checksum}');\n"
    return _LINE.sub(line.encode(), sql)
