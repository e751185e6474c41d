"""A folder of installed distributions, for tests of what plugins do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent

import pytest

from lamella import Registry


class Site:
    """Distributions as an installer leaves them: modules, and a dist-info folder for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(
        self,
        name: str,
        modules: Mapping[str, str],
        *,
        entry_points: Mapping[str, str],
        version: str = "1.0",
        requires: tuple[str, ...] = (),
    ) -> None:
        """Install one distribution; `modules` has each module's source by its name."""
        for module, source in modules.items():
            file = self.folder / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source), encoding="utf-8")
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        points = [f"{key} = {value}" for key, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lamella]", *points]), encoding="utf-8")
        importlib.invalidate_caches()

    def plugin(self, name: str, source: str, **more: str) -> None:
        """Install a distribution whose one module has hooks."""
        module = name.replace("-", "_")
        modules = {module: source, **{f"{module}_{key}": value for key, value in more.items()}}
        self.install(name, modules, entry_points={"it": module})

    def entry_points(self) -> list[EntryPoint]:
        """The entry points of all that is installed here."""
        found = [each.entry_points for each in distributions(path=[str(self.folder)])]
        return [point for points in found for point in points]

    def registry(self, *allow: str) -> Registry:
        """A registry of these distributions; of `allow` only if any are named."""
        return Registry(self.entry_points(), allow=allow or None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder of distributions that can be imported while the test runs."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)  # where there is no lamella.toml
    for name in ("LAMELLA_CONFIG", "LAMELLA_ENV", "LAMELLA_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and file.startswith(str(folder)):
            del sys.modules[name]
