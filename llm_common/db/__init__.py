"""The database: one `Database`, two transports, one typed function per SQL function."""

from llm_common.db.database import Database, DatabaseSource

__all__ = ["Database", "DatabaseSource"]
