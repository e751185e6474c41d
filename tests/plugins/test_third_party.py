"""A stranger's distribution, built and installed, is found, ordered, explained and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "lamella-shout"

# The dependencies of both are where this interpreter has them. They come last, so that the two
# distributions under test are those that were installed; .pth files there are not read.
BORROW = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"

LOOK = """
import json
from lamella import ChatRequest, Pipeline, registry
import lamella

names = registry()
before = "lamella_shout.layers" in sys.modules
stack = Pipeline.arrange(["cost", "shout", "retry", "deadline"], "mock")
preset = Pipeline.preset("shouting", shout={"voice": "low"})
request = ChatRequest.of("Why is the sky blue?", model="gpt-4o-mini")
print(json.dumps({
    "library": lamella.__file__,
    "before": before,
    "plugins": {
        each.distribution: [each.version, sorted(each.contributes), list(map(str, each.problems))]
        for each in names.plugins() if each.distribution != "lamella"
    },
    "origin": names.origin("middlewares", "shout"),
    "order": [info.name for info in stack.infos],
    "explained": str(stack.explain()),
    "loud": stack.run_sync(request).text,
    "low": preset.run_sync(request).text,
    "preset": [info.name for info in preset.infos],
}))
"""

KEPT_OUT = """
from lamella import Pipeline, UnknownNameError
try:
    Pipeline(["shout"])
except UnknownNameError as error:
    print("lamella_shout" in sys.modules, error)
"""

MISTAKEN = """
from lamella import ConfigurationError, Pipeline
try:
    Pipeline.preset("shouting", shout={"voice": "hoarse"}, retry={"atempts": 2})
except ConfigurationError as error:
    print(error)
"""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a program; what it prints. Nobody's settings reach it."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("LAMELLA_")}
    child = subprocess.run(
        command, capture_output=True, check=False, cwd=cwd, env={**ours, **environment}, text=True
    )
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


def build(project: Path, folder: Path) -> Path:
    """Build a project's wheel with its own back end, which needs no network."""
    arguments = ("build", "--target", "wheel", "--directory", folder)
    run(sys.executable, "-m", "hatchling", *arguments, cwd=project)
    (wheel,) = folder.iterdir()
    return wheel


def install(folder: Path, *wheels: Path) -> Path:
    """Make an environment with these wheels and no others; its interpreter."""
    uv = shutil.which("uv")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if uv is None:
        venv.create(folder, with_pip=True)
        run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels)
        return python
    run(uv, "venv", "--quiet", "--offline", "--python", sys.executable, folder)
    run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, *wheels)
    return python


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which the library and the example are installed."""
    wheels = [build(project, tmp_path_factory.mktemp("wheel")) for project in (ROOT, EXAMPLE)]
    return install(tmp_path_factory.mktemp("installed") / "environment", *wheels)


def ask(python: Path, code: str, cwd: Path, **environment: str) -> str:
    """What a program prints in that environment, away from this tree."""
    return run(python, "-I", "-W", "error", "-c", BORROW + code, cwd=cwd, **environment)


@pytest.fixture(scope="module")
def seen(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a program sees of the example once it is installed."""
    found: dict[str, Any] = json.loads(ask(python, LOOK, tmp_path_factory.mktemp("work")))
    return found


def test_it_is_found(seen: dict[str, Any], python: Path) -> None:
    """The installed library finds the plugin by its entry point, and imports no layer."""
    assert Path(seen["library"]).is_relative_to(python.parents[1])
    assert seen["plugins"]["lamella-shout"] == ["1.0.0", ["middlewares", "presets"], []]
    assert seen["origin"] == "lamella-shout 1.0.0"
    assert not seen["before"]


def test_it_is_ordered(seen: dict[str, Any]) -> None:
    """Its layer goes where its phase belongs, and stays where its preset has it."""
    assert seen["order"] == ["deadline", "shout", "retry", "cost"]
    assert seen["preset"] == ["deadline", "shout", "cost"]


def test_it_is_explained(seen: dict[str, Any]) -> None:
    """The explanation says where the layer is from and what it may do."""
    (line,) = [line for line in seen["explained"].splitlines() if "shout" in line]
    said = ["2.", "shout", "[shape]", "(chat only)", "may: changes events", "from lamella-shout"]
    assert re.split(r" {2,}|(?<=\d\.) ", line.strip()) == said


def test_it_runs(seen: dict[str, Any]) -> None:
    """Requests pass through it, by name and from its preset with an option changed."""
    assert seen["loud"].isupper()
    assert seen["low"] == seen["loud"].casefold()


def test_it_can_be_kept_out(python: Path, tmp_path: Path) -> None:
    """With an empty allow-list it is not even imported, and who asks for its layer is told."""
    said = ask(python, KEPT_OUT, tmp_path, LAMELLA_PLUGINS="")
    assert said.startswith("False There is no middleware 'shout'.")
    # What else the development environment lends is kept out as well.
    assert re.search(r"LAMELLA_PLUGINS, or \[plugins\] allow, keeps out .*\blamella-shout\b", said)


def test_mistakes_in_its_options_are_told(python: Path, tmp_path: Path) -> None:
    """Its options are checked as those of built-in layers are, from its annotations."""
    assert ask(python, MISTAKEN, tmp_path).splitlines() == [
        "Pipeline.preset('shouting'): shout.voice: got 'hoarse', expected one of 'loud', 'low'",
        "Pipeline.preset('shouting'): retry.atempts: is no option. Did you mean 'attempts'?",
    ]


def test_its_own_tests_pass_where_it_is_installed(python: Path, tmp_path: Path) -> None:
    """The tests that it brings, the conformance kit among them, pass on what is installed."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    code = "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'tests']))"
    assert " passed" in ask(python, code, tmp_path)
