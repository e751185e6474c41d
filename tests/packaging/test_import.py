"""Importing the packages costs little and does nothing."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

IMPORTS = ["lamella", "lamella_middlewares"]

# What may come along. Everything else is loaded by what needs it, when it is needed.
LIGHT = {"anyio", "attr", "attrs", "idna", "sniffio", "typing_extensions"}

# In a bare interpreter anyio, attrs and asyncio bring 135 modules; the rest is the library's own.
# `import openai` brings over 800.
MODULES = 240

# Runs alone in a fresh interpreter; prints what the import of one package has done.
WITNESS = """
import json, sys
watched = ("_thread.", "ftplib.", "http.", "os.", "pty.", "shutil.", "socket.", "sqlite3.",
           "subprocess.", "tempfile.", "urllib.", "winreg.")
looking = ("os.listdir", "os.scandir")
code = (".py", ".pyc", ".so", ".pyd")
seen = []
def witness(event, arguments):
    if event == "open":
        path = str(arguments[0])
        written = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if written or not path.endswith(code):
            seen.append(f"open {path} {arguments[1]}")
    elif event.startswith(watched) and event not in looking:
        seen.append(f"{event} {arguments!r}")
before = set(sys.modules)
sys.addaudithook(witness)
__import__(sys.argv[1])
done = list(seen)
modules = sorted(set(sys.modules) - before)
print(json.dumps({"done": done, "modules": modules, "threads": len(sys._current_frames())}))
"""


@pytest.fixture(scope="module", params=IMPORTS)
def witnessed(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the import of one package did in an interpreter of its own."""
    # Coverage would measure the child too, and so add modules and files of its own.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
    }
    child = subprocess.run(
        [sys.executable, "-I", "-B", "-W", "error", "-c", WITNESS, request.param],
        capture_output=True,
        check=False,
        env=environment,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    report: dict[str, Any] = json.loads(child.stdout)
    return report


def test_import_touches_nothing(witnessed: dict[str, Any]) -> None:
    """An import reads code only: no other file, no network, no process."""
    assert witnessed["done"] == []


def test_import_starts_no_thread(witnessed: dict[str, Any]) -> None:
    """After an import the main thread is the only one."""
    assert witnessed["threads"] == 1


def test_import_loads_only_light_distributions(witnessed: dict[str, Any]) -> None:
    """An import loads anyio and attrs; SDKs, HTTP clients and the rest wait until they are used."""
    loaded = {name.partition(".")[0] for name in witnessed["modules"]}
    foreign = loaded - sys.stdlib_module_names - set(IMPORTS)
    assert foreign - LIGHT == set()


def test_import_loads_few_modules(witnessed: dict[str, Any]) -> None:
    """The number of modules, which is most of the time an import takes, stays bounded."""
    assert len(witnessed["modules"]) <= MODULES


def test_witness_sees_files_sockets_and_threads(tmp_path: Path) -> None:
    """The child that watches the imports reports a file, a socket and a thread."""
    (tmp_path / "guilty.py").write_text(
        "import pathlib, socket, sys, threading\n"
        "pathlib.Path(sys.argv[0] + 'x').exists()\n"
        "open(__file__ + '.log', 'w').close()\n"
        "socket.socket().close()\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{WITNESS}"
    child = subprocess.run(
        [sys.executable, "-I", "-B", "-c", script, "guilty"],
        capture_output=True,
        check=True,
        text=True,
    )
    report = json.loads(child.stdout)
    kinds = {event.split()[0] for event in report["done"]}
    assert {"open", "socket.__new__"} <= kinds
    assert report["threads"] == 2


def imported_by(file: Path) -> set[str]:
    """The top-level packages that a file names in its import statements, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("folder", "known"),
    [("pipeline/lamella", set()), ("middlewares/lamella_middlewares", {"lamella_middlewares"})],
)
def test_no_plugin_is_imported(folder: str, known: set[str]) -> None:
    """The core and the layers import no `lamella_*` package: plugins are found by entry point."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in imported_by(file)
        if name.startswith("lamella_") and name not in known
    }
    assert found == set()
