"""The database of a run's own server: a copy of a template, or left to Prefect."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows import server_database

MAKE = "from flows.server_database import make_database; print(make_database())"
MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def started(home: Path, cache: Path, code: str = MAKE, **more: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(home), "NARROWCAST_CACHE": str(cache), **more}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def made(home: Path, cache: Path, code: str = MAKE, **more: str) -> str:
    with started(home, cache, code, **more) as process:
        return process.communicate()[0].strip()


def schema(database: Path) -> list[tuple[str, list[str]]]:
    """Tables and indexes by name, each as its lines: migrations add constraints in an order that varies."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        return [(name, sorted(line.strip(" ,\t") for line in sql.splitlines())) for name, sql in rows]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with a template."""
    folder = tmp_path_factory.mktemp("cache")
    made(tmp_path_factory.mktemp("home"), folder)
    return folder


def template(cache: Path) -> Path:
    (file,) = (cache / "prefect").glob("*.db")
    return file


def test_a_new_database_is_what_the_migrations_make(cache, tmp_path):
    assert made(tmp_path / "copied", cache) == "True"
    made(tmp_path / "migrated", cache, MIGRATE)
    copied, migrated = (tmp_path / name / "prefect.db" for name in ("copied", "migrated"))
    assert len(schema(copied)) > 100
    assert schema(copied) == schema(migrated)
    assert server_database.is_up_to_date(copied, migrated)


def test_a_database_of_an_older_prefect_is_left_to_its_migrations(cache, tmp_path):
    home = tmp_path / "home"
    made(home, cache)
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
        connection.commit()
    assert made(home, cache) == "False"


def test_what_a_database_holds_stays(cache, tmp_path):
    home = tmp_path / "home"
    made(home, cache)
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        connection.execute("INSERT INTO flow (name) VALUES ('mine')")
        connection.commit()
    assert made(home, cache) == "True"
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        assert connection.execute("SELECT name FROM flow").fetchall() == [("mine",)]


def test_a_damaged_template_is_made_again(cache, tmp_path):
    whole = template(cache).read_bytes()
    template(cache).write_bytes(whole[: len(whole) // 2])
    assert made(tmp_path / "home", cache) == "True"
    assert schema(tmp_path / "home" / "prefect.db") == schema(template(cache))


@pytest.mark.parametrize(
    ("url", "answer"),
    [("sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false", "False")],
    ids=["memory"],
)
def test_another_database_is_left_to_prefect(cache, tmp_path, url, answer):
    assert made(tmp_path / "home", cache, PREFECT_API_DATABASE_CONNECTION_URL=url) == answer


def test_the_log_of_a_database_that_was_removed_does_not_get_into_the_new_one(cache, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "prefect.db-wal").write_bytes(b"what was not yet in the database")
    assert made(home, cache) == "False"
    assert not (home / "prefect.db").exists()


def test_starts_at_the_same_time_make_one_database_and_leave_nothing_behind(tmp_path):
    home, cache = tmp_path / "home", tmp_path / "cache"
    runs = [started(home, cache) for _ in range(3)]
    assert [run.communicate()[0].strip() for run in runs] == ["True"] * 3
    assert schema(home / "prefect.db") == schema(template(cache))
    assert [path.name for path in home.iterdir()] == ["prefect.db"]
    assert [path.suffix for path in (cache / "prefect").iterdir()] == [".db"]


def test_a_cache_folder_that_cannot_be_written_to_leaves_all_to_prefect(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert made(tmp_path / "home", tmp_path / "cache") == "False"
