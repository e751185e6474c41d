"""The built distributions hold the two packages and nothing else."""

from __future__ import annotations

import configparser
import email
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "lamella": ROOT / "pipeline" / "lamella",
    "lamella_middlewares": ROOT / "middlewares" / "lamella_middlewares",
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def build(target: str, folder: Path) -> Path:
    """Build one target with the project's own back end, which needs no network."""
    child = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The names of all files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.namelist()
    assert len(entries) == len(set(entries))
    return set(entries)


def read(wheel: Path, name: str) -> str:
    """One file of the wheel's dist-info folder."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def test_wheel_has_two_packages_and_metadata(names: set[str], project: dict[str, Any]) -> None:
    """At the top of the wheel stand the two packages and the dist-info folder, and no file."""
    info = f"lamella-{project['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    assert all("/" in name for name in names)


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_has_every_file_of_a_package(names: set[str], package: str) -> None:
    """A package in the wheel is its folder in the tree, data files and py.typed included."""
    folder = PACKAGES[package]
    expected = {
        f"{package}/{file.relative_to(folder).as_posix()}"
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in names if name.startswith(f"{package}/")} == expected
    assert f"{package}/py.typed" in names


def test_wheel_runs_nothing_by_itself(wheel: Path, names: set[str]) -> None:
    """The wheel is pure Python and has no .pth file, compiled file or install-time data."""
    assert wheel.name.endswith("-py3-none-any.whl")
    assert {name for name in names if name.endswith((".pth", ".pyc", ".so", ".pyd"))} == set()
    assert {name for name in names if ".data/" in name} == set()


def test_entry_points_lead_to_modules_in_the_wheel(
    wheel: Path, names: set[str], project: dict[str, Any]
) -> None:
    """Each entry point that pyproject.toml declares is in the wheel, and so is its module."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(read(wheel, "entry_points.txt"))
    declared = {"console_scripts": project["scripts"], **project["entry-points"]}
    assert {section: dict(parser[section]) for section in parser.sections()} == declared
    for entries in declared.values():
        for target in entries.values():
            path = target.partition(":")[0].replace(".", "/")
            assert {f"{path}.py", f"{path}/__init__.py"} & names, target


def test_metadata_says_what_is_needed(wheel: Path, project: dict[str, Any]) -> None:
    """The metadata has the licence, its text, the Python versions and every extra."""
    metadata: Message = email.message_from_string(read(wheel, "METADATA"))
    assert metadata["Name"] == "lamella"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata.get_all("Provides-Extra") == sorted(project["optional-dependencies"])
    licence = read(wheel, "licenses/LICENSE")
    assert "Apache License" in licence
    assert "The Lamella authors" in licence


def test_wheel_is_reproducible(wheel: Path, tmp_path: Path) -> None:
    """Building the same tree again gives the same bytes."""
    assert build("wheel", tmp_path).read_bytes() == wheel.read_bytes()


def test_source_distribution_can_be_tested(tmp_path: Path, project: dict[str, Any]) -> None:
    """The source distribution has code, tests and documentation, and no lock, cache or setting."""
    with tarfile.open(build("sdist", tmp_path)) as archive:
        members = {Path(name).parts[1:] for name in archive.getnames()}
    top = {parts[0] for parts in members if parts}
    assert top >= {"pipeline", "middlewares", "tests", "docs", "pyproject.toml", "LICENSE"}
    assert top <= {
        *("PKG-INFO", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"),
        *("pipeline", "middlewares", "tests", "docs", "benchmarks"),
        *("conftest.py", "zensical.toml", ".gitignore"),
    }
    assert ("tests", "packaging", Path(__file__).name) in members
    assert project["version"]
