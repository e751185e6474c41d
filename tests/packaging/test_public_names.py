"""What a package exports is what its `__all__` says."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from types import ModuleType

import pytest

PUBLIC = [
    "lamella",
    "lamella.testing",
    "lamella.transports",
    "lamella_middlewares",
]

# Names that an import statement leaves behind and that nobody looks for in a package.
ORDINARY = {"Any", "TYPE_CHECKING", "annotations", "lazily", "show_public_address"}


def exists(name: str) -> bool:
    """Whether a package is part of this version."""
    return importlib.util.find_spec(name) is not None


@pytest.fixture(params=[name for name in PUBLIC if exists(name)])
def package(request: pytest.FixtureRequest) -> ModuleType:
    """Each public package in turn."""
    return importlib.import_module(request.param)


def place(name: str) -> tuple[int, str]:
    """Where a name stands in a sorted `__all__`: constants, then classes, then functions."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def test_names_are_sorted_and_unique(package: ModuleType) -> None:
    """`__all__` is sorted, constants first, then classes, then functions; no name comes twice."""
    names = list(package.__all__)
    assert names
    assert names == sorted(set(names), key=place)


def test_names_exist(package: ModuleType) -> None:
    """Each name in `__all__` can be had from the package, and `dir()` shows it."""
    missing = [name for name in package.__all__ if not hasattr(package, name)]
    assert missing == []
    assert set(package.__all__) <= set(dir(package))


def test_no_name_is_forgotten(package: ModuleType) -> None:
    """A public name that a package has and is not a module is in its `__all__`."""
    names = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert names - ORDINARY - set(package.__all__) == set()


def test_public_objects_are_documented(package: ModuleType) -> None:
    """Each exported class and function has a docstring of its own."""
    values = {name: getattr(package, name) for name in package.__all__}
    bare = [
        name
        for name, value in values.items()
        if (inspect.isclass(value) or inspect.isroutine(value)) and not value.__doc__
    ]
    assert bare == []
