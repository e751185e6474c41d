"""An environment of its own for each peer, made on demand with uv, and kept.

Peers want versions of the same packages that are not the same. They live in
`benchmarks/.environments`, which is not under version control; take a folder away there to have the
newest version installed again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent / ".environments"
PATIENCE: Final = 300.0

REQUIREMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "langchain": ("langchain-openai>=1",),
    "litellm": ("litellm>=1.80",),
    "openai-aiohttp": ("openai[aiohttp]>=2.20,<4",),
    "pydantic-ai": ("pydantic-ai-slim[openai]>=2",),
    "tensorzero": ("tensorzero>=2026.1",),
}
"""What each environment holds. Bounds are loose: a run records the versions that it had."""

_VERSIONS: Final = """
import importlib.metadata as metadata, json, sys
print(json.dumps({name: metadata.version(name) for name in sys.argv[1:]}))
"""


class UnavailableError(Exception):
    """An environment cannot be had here; the words say why."""


def python_of(name: str | None) -> str:
    """The interpreter of an environment, made if it is not there; None is this one's.

    Raises:
        UnavailableError: If it cannot be made: no uv, no network, no wheel for this machine.
    """
    if name is None:
        return sys.executable
    folder = ROOT / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = folder / "installed"
    if not done.exists():
        uv = shutil.which("uv")
        if uv is None:
            raise UnavailableError("uv is not installed, which makes its environment")
        ROOT.mkdir(exist_ok=True)
        (ROOT / ".gitignore").write_text("*\n")
        _run(uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, folder)
        _run(uv, "pip", "install", "--quiet", "--python", folder, *REQUIREMENTS[name])
        done.touch()
    return str(python)


def versions(name: str | None, distributions: tuple[str, ...]) -> dict[str, str]:
    """The versions of distributions that an environment holds."""
    command = [python_of(name), "-c", _VERSIONS, *distributions]
    said = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, str] = json.loads(said.stdout)
    return found


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(  # noqa: S603 - uv, on names from this file
            [str(word) for word in command],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"uv was not done after {PATIENCE:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = str(error.stderr).strip().splitlines() or ["uv said nothing"]
        raise UnavailableError(said[-1][:200]) from error
