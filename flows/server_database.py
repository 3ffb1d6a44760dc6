"""The database of a server for one run, there at once: a copy of an empty one that Prefect's migrations made before.

Prefect makes a new database by running about a hundred migrations, which takes longer than a small run. They run once
for each version of Prefect, and fill a template in the user's cache folder. Whatever is out of the ordinary (another
database than SQLite's, one of another version, a folder that cannot be written to) is left to Prefect.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from quant_core.execution.machine import default_cache
from quant_core.storage.references import atomic_copy
from quant_core.storage.scratch import clear_leftovers, held, hidden_beside, scratch_folder

__all__ = ["is_up_to_date", "make_database"]


def make_database() -> bool:
    """Make the database of Prefect's settings unless it is there; return whether it needs no migration."""
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
    from sqlalchemy import make_url

    url = make_url(PREFECT_API_DATABASE_CONNECTION_URL.value())
    if url.get_backend_name() != "sqlite" or not url.database or ":memory:" in url.database or url.query:
        return False
    database = Path(url.database)
    try:
        template = _template()
        if not database.exists():
            _copy(template, database)
        return is_up_to_date(database, template)
    except (OSError, sqlite3.Error):  # such as a read-only cache folder
        return False


def is_up_to_date(database: Path, template: Path) -> bool:
    """Return whether the last migration of a database is that of the template."""
    return _revision(database) == _revision(template)


def _revision(database: Path) -> str:
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(revision)


def _template() -> Path:
    """Return the template for this version of Prefect, made first if it is not there or damaged."""
    place = default_cache() / "prefect" / f"{_version()}.db"
    with suppress(sqlite3.Error, TypeError):
        if place.is_file() and _is_sound(place):
            return place
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(place.parent)
    with scratch_folder(place.parent) as folder:
        asyncio.run(_migrate(folder / "migrated.db"))
        with closing(sqlite3.connect(folder / "migrated.db")) as connection:
            connection.execute("VACUUM INTO ?", [str(folder / "template.db")])  # one file, without a log beside it
        atomic_copy(folder / "template.db", place)
    return place


def _version() -> str:
    """Return what the schema follows from: the version of Prefect, and which migrations it has."""
    import prefect
    from prefect.server.database import _migrations

    migrations = sorted(path.name for path in Path(next(iter(_migrations.__path__))).glob("versions/sqlite/*.py"))
    return f"{prefect.__version__}-{hashlib.sha256(' '.join(migrations).encode()).hexdigest()[:16]}"


def _is_sound(database: Path) -> bool:
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("PRAGMA quick_check").fetchone() == ("ok",) and bool(_revision(database))


async def _migrate(database: Path) -> None:
    """Run all of Prefect's migrations on a new database."""
    from prefect.server.database.configurations import AioSqliteConfiguration
    from prefect.server.database.dependencies import provide_database_interface, temporary_database_config

    with temporary_database_config(AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{database}")):
        interface = provide_database_interface()
        await interface.create_db()
        await (await interface.engine()).dispose()


def _copy(template: Path, database: Path) -> None:
    """Make a database that is there whole or not at all; one that another process has made meanwhile wins."""
    if any(database.with_name(database.name + end).exists() for end in ("-wal", "-journal")):
        return  # of a database that was removed: SQLite would take it for the new one's
    clear_leftovers(database.parent)
    temporary = hidden_beside(database)
    try:
        with temporary.open("xb") as stream, held(temporary):
            stream.write(template.read_bytes())
        with suppress(FileExistsError):
            os.link(temporary, database)
    finally:
        temporary.unlink(missing_ok=True)
