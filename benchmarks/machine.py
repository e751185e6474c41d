"""What a run was made on, and when."""

from __future__ import annotations

import datetime as dt
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.environments import UnavailableError, versions
from benchmarks.roster import ENTRIES


def machine() -> dict[str, Any]:
    """The processor, the cores, the system, the interpreter, the day."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": _gigabytes(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def processor() -> str:
    """Its name, as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gigabytes() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def all_versions() -> dict[str, str]:
    """The versions of everybody who is measured, by contender."""
    found: dict[str, str] = {}
    for entry in ENTRIES:
        if entry.distributions:
            try:
                each = versions(entry.environment, entry.distributions)
            except (UnavailableError, OSError, ValueError):
                continue  # a run says elsewhere that it was skipped, and why
            found[entry.name] = ", ".join(f"{name} {version}" for name, version in each.items())
    return found
