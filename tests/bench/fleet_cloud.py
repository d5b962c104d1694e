"""A Placement as a small cloud has it: several processes on a MariaDB, over HTTP, filled by SQL; and what it was asked.

fleet_rows.py makes the rows, fleet.py measures.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import sqlalchemy
from placement.db.sqlalchemy import models

from tests.bench.fleet_service import CONFIG, LOG_NAME
from tests.fixtures.mariadb import mariadb

TOKEN = "admin"
MICROVERSION = "1.38"
_START_SECONDS = 120.0
_ROWS_AT_ONCE = 5000

Rows = Mapping[str, Sequence[Mapping[str, object]]]
"""The rows to insert, by table."""


@dataclass(frozen=True)
class Served:
    """One request as Placement served it; ``seconds`` are those inside Placement, without the network."""

    method: str
    path: str
    version: str
    status: int
    bytes: int
    seconds: float


class BenchPlacement:
    """A running Placement, its database and its log of requests."""

    def __init__(self, endpoint: str, database: str, directory: Path) -> None:
        self.endpoint = endpoint
        self._engine = sqlalchemy.create_engine(database)
        self._log = directory / LOG_NAME

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def session(self, microversion: str = MICROVERSION) -> requests.Session:
        """A client that keeps its connection alive, and does nothing else."""
        session = requests.Session()
        session.headers["X-Auth-Token"] = TOKEN
        session.headers["OpenStack-API-Version"] = f"placement {microversion}"
        session.headers["Accept"] = "application/json"
        return session

    def get(self, path: str) -> Any:
        """What Placement answers to one GET, which must succeed."""
        with self.session() as session:
            answer = session.get(self.endpoint + path)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def served(self, do: Callable[[], object]) -> list[Served]:
        """The requests that were served while *do* ran, without those for the version document."""
        start = self._log.stat().st_size if self._log.exists() else 0
        do()
        with self._log.open() as log:
            log.seek(start)
            lines = [Served(**json.loads(line)) for line in log]
        return [line for line in lines if line.path != "/"]

    def replay(self, asked: Sequence[Served]) -> float:
        """The seconds of the same GETs by a client that reads each answer and throws it away: Placement's own part."""
        gets = [each for each in asked if each.method == "GET"]
        with self.session() as session:
            session.get(self.endpoint + "/")
            started = time.perf_counter()
            for each in gets:
                headers = {"OpenStack-API-Version": each.version}
                with session.get(self.endpoint + each.path, headers=headers, stream=True) as answer:
                    for _ in answer.iter_content(1 << 20):
                        pass
            return time.perf_counter() - started

    def fill(self, names: Callable[[Mapping[str, int], Mapping[str, int]], Rows], *, new_names: Sequence[str]) -> None:
        """Replace all providers by the rows that *names* gives for the ids of classes and of traits, by name.

        *new_names* are created before, through the API.
        """
        with self.session() as session:
            for path in new_names:
                session.put(self.endpoint + path).raise_for_status()
        tables = models.BASE.metadata.tables
        emptied = (
            "allocations",
            "consumers",
            "inventories",
            "resource_provider_traits",
            "resource_providers",
            "projects",
            "users",
        )
        with self._engine.connect() as connection:
            connection.execute(sqlalchemy.text("SET foreign_key_checks=0, unique_checks=0"))
            for name in emptied:
                connection.execute(sqlalchemy.text(f"TRUNCATE TABLE {name}"))
            rows = names(self._ids(connection, "resource_classes"), self._ids(connection, "traits"))
            for name, wanted in rows.items():
                for first in range(0, len(wanted), _ROWS_AT_ONCE):
                    connection.execute(tables[name].insert(), wanted[first : first + _ROWS_AT_ONCE])
                connection.commit()
            connection.execute(sqlalchemy.text("SET foreign_key_checks=1, unique_checks=1"))
            for name in rows:
                connection.execute(sqlalchemy.text(f"ANALYZE TABLE {name}"))

    def type_id(self) -> int:
        """The id of the consumer type INSTANCE, which is made when it is missing."""
        table = models.ConsumerType.__table__
        with self._engine.begin() as connection:
            found = connection.execute(sqlalchemy.select(table.c.id).where(table.c.name == "INSTANCE")).scalar()
            if found is None:
                found = connection.execute(table.insert().values(name="INSTANCE")).inserted_primary_key[0]
        return int(found)

    def _ids(self, connection: sqlalchemy.Connection, table: str) -> dict[str, int]:
        columns = models.BASE.metadata.tables[table].c
        found = connection.execute(sqlalchemy.select(columns.name, columns.id))
        return {str(name): int(number) for name, number in found}


@contextlib.contextmanager
def running_placement(*, processes: int = 2, threads: int = 4, buffer_pool: str = "512M") -> Iterator[BenchPlacement]:
    """A Placement with an empty database, as many *processes* with as many *threads* each; it is gone afterwards."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-fleet-")))
        database = stack.enter_context(mariadb(buffer_pool))
        engine = sqlalchemy.create_engine(database)
        models.BASE.metadata.create_all(engine)
        engine.dispose()
        (directory / "placement.conf").write_text(CONFIG.format(database=database.replace("%", "%%")))
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.setblocking(False)
        # The first one writes Placement's own names; the others then find them.
        for _ in range(processes):
            _ready(stack.enter_context(_process(directory, listener.fileno(), threads)), directory)
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        placement = BenchPlacement(endpoint, database, directory)
        stack.callback(placement.close)
        yield placement


@contextlib.contextmanager
def _process(directory: Path, listener: int, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "tests.bench.fleet_service", "--directory", str(directory)]
    words += ["--listener", str(listener), "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "UMOCKDEV_DIR")}
    with (directory / "service.out").open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            pass_fds=[listener],
            cwd=Path(__file__).parents[2],
            env=environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ready(process: subprocess.Popen[bytes], directory: Path) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("Placement did not start: " + (directory / "service.out").read_text()[-2000:])
