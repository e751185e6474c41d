"""What to do about a plugin that does not load: the command that installs what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, PackageMetadata, PackageNotFoundError, version
from typing import Final

from lamella._versions import unmet

_CORE: Final = "lamella"
_REQUIRED: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def distribution_of(entry_point: EntryPoint) -> tuple[str, str]:
    """The name and version of the distribution that an entry point belongs to.

    What is left of one that was removed by half has no name: then it goes by its module, in words
    that are no distribution's name, so that no allow-list lets it in by accident.
    """
    metadata = _metadata(entry_point)
    if metadata is not None:
        # Only what is there is asked for: Python >= 3.12 warns otherwise.
        fields = {key: metadata[key] for key in ("Name", "Version") if key in metadata}
        if fields.get("Name"):
            return fields["Name"], fields.get("Version", "")
    return f"module {module_of(entry_point)}", ""


def _metadata(entry_point: EntryPoint) -> PackageMetadata | None:
    """What a distribution says of itself; None where nothing is left that could."""
    if entry_point.dist is None:
        return None
    try:
        return entry_point.dist.metadata
    except FileNotFoundError:  # from importlib_metadata, which takes the standard library's place
        return None


def module_of(entry_point: EntryPoint) -> str:
    """The module that an entry point names, whether or not it is well formed."""
    return entry_point.value.partition(":")[0].strip()


def requirements_of(entry_point: EntryPoint) -> tuple[str, ...]:
    """What the distribution that an entry point belongs to requires."""
    known = entry_point.dist is not None and _metadata(entry_point) is not None
    return tuple((entry_point.dist.requires if known and entry_point.dist else None) or ())


def version_problem(entry_point: EntryPoint) -> tuple[str, str] | None:
    """Why a distribution does not go with the installed library, and the remedy; or None."""
    installed = _installed()
    for requirement in _on(requirements_of(entry_point), _CORE):
        missed = unmet(requirement, installed) if installed else ()
        if missed:
            name = distribution_of(entry_point)[0]
            return (
                f"it needs {_CORE}{','.join(missed)}, and {_CORE} {installed} is installed",
                f"Install versions that go together: pip install --upgrade {_CORE} {name}",
            )
    return None


def how_to_mend(error: BaseException, distribution: str, requirements: Iterable[str]) -> str:
    """One sentence on what to do about an error that came of importing a plugin's module.

    Args:
        error: The error.
        distribution: The plugin's distribution.
        requirements: What that requires, as its metadata have it.
    """
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    reinstall = f"pip install --force-reinstall {distribution}"
    if "." in missing:  # the package is there, and a part of it is not
        return f"It is not whole. Install it again: {reinstall}"
    if missing:
        for requirement in _on(requirements, missing):
            extra = _EXTRA.search(requirement)
            if extra is not None:
                return f"Install its extra: pip install '{distribution}[{extra[1]}]'"
            return f"Install what it needs: pip install '{requirement.partition(';')[0].strip()}'"
        return f"Install what has the module {missing!r}, or all that belongs here: {reinstall}"
    upgrade = f"pip install --upgrade {distribution}"
    if isinstance(error, ImportError):
        return f"It may be made for another version of {_CORE} than {_installed()}: {upgrade}"
    return f"Upgrade it ({upgrade}), uninstall it, or leave it out of LAMELLA_PLUGINS."


def words_of(error: BaseException) -> str:
    """An error's type and message; a stranger's may not even be able to say it."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as worse:  # noqa: BLE001 - as above
        return f"{type(error).__name__}, whose message fails with {type(worse).__name__}"


def _on(requirements: Iterable[str], name: str) -> list[str]:
    """Those that ask for the distribution `name`, or for the one that has the module `name`."""
    wanted = _normal(name)
    matches = [(each, _REQUIRED.match(each)) for each in requirements]
    return [each for each, match in matches if match is not None and _normal(match[1]) == wanted]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> str:
    try:
        return version(_CORE)
    except PackageNotFoundError:  # run from its sources, which no installer knows
        return ""
