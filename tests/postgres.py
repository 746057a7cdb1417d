"""A real PostgreSQL server, on loopback and on a free port, for as long as a test needs it."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
needs_postgres = pytest.mark.skipif(
    BINARIES is None, reason="PostgreSQL is not installed: apt-get install postgresql"
)


@dataclass(frozen=True)
class Server:
    """A server that runs, and knows one user.

    Attributes:
        port: on 127.0.0.1.
        password: of the user ``metatune``.
        data: its folder.
    """

    port: int
    password: str
    data: Path

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        """A storage URL, with the user's password or another one."""
        secret = self.password if password is None else password
        return f"postgresql+psycopg://metatune:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; its URL."""
        command = [_binary("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "metatune"]
        environment = {**os.environ, "PGPASSWORD": self.password}
        subprocess.run([*command, database], check=True, env=environment)
        return self.url(database)

    def stop(self) -> None:
        """At once, as in a crash: what was committed is on disk."""
        _as_postgres("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """On the port that it had before."""
        # Without waiting for the disk: the machine does not crash, the server at most.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.data} -c fsync=off"
        log = self.data / "server.log"
        _as_postgres("pg_ctl", "-D", self.data, "-w", "-l", log, "-o", options, "start")


@contextmanager
def server() -> Iterator[Server]:
    """A new server, whose data lie in a folder of their own until it ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with TemporaryDirectory(prefix="pg-") as name:  # short: a socket's path has 107 characters
        folder = Path(name)
        made = Server(port, f"secret-{secrets.token_hex(8)}", folder / "data")
        word = folder / "word"
        word.write_text(made.password)
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            for path in (folder, word):
                shutil.chown(path, "postgres", "postgres")
        known = ("-U", "metatune", "--pwfile", word, "-A", "scram-sha-256")
        _as_postgres("initdb", "-D", made.data, *known, "--no-sync", "-E", "UTF8", "--locale", "C")
        made.start()
        try:
            yield made
        finally:
            made.stop()


def _as_postgres(program: str, *arguments: object) -> None:
    user: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}"]
        user = ["setpriv", *ids, "--clear-groups"]
    command = [*user, _binary(program), *map(str, arguments)]
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _binary(program: str) -> str:
    assert BINARIES is not None
    return str(BINARIES.with_name(program))
