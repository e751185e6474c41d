"""Locks that a forked child finds open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_lock_may_be_made_under_another_while_the_process_forks(tmp_path: Path) -> None:
    """Whoever holds one and makes the next does not wait for a fork that waits for it."""
    script = tmp_path / "forking.py"
    script.write_text(FORKING)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # A measurement of coverage has locks of its own, which a fork may leave shut.
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
    )
    assert (done.returncode, done.stdout) == (0, "40 children\n"), done.stderr


FORKING = """
import faulthandler, os, signal, sys, threading
from lamella._fork_locks import fork_safe_lock

faulthandler.dump_traceback_later(30, exit=True)
sys.setswitchinterval(1e-6)
outer = fork_safe_lock()
stop = False

def busy():
    while not stop:
        with outer:
            kept = [fork_safe_lock() for _ in range(20)]

threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads:
    thread.start()
children = 0
for _ in range(40):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        with outer, fork_safe_lock():
            os._exit(0)
    children += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop = True
for thread in threads:
    thread.join()
print(children, "children")
"""
