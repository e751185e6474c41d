"""Instants and time zones as people write them on a command line."""

from __future__ import annotations

import datetime as dt
import os
import re
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from lamella._ports import default_ports
from lamella.cli._errors import UsageError

_AGO: Final = re.compile(r"(\d{1,6})([hdw])")
_SPAN: Final = re.compile(r"[\d.,]+\s*[a-zA-Z]+")
_UNITS: Final = {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_LOCALTIME: Final = Path("/etc/localtime")


def local_zone() -> str:
    """The name of this machine's time zone; UTC where it has none that can be found out."""
    said = os.environ.get("TZ", "").removeprefix(":")
    try:
        linked = _LOCALTIME.resolve().as_posix().rpartition("/zoneinfo/")[2]
    except (OSError, RuntimeError):
        linked = ""
    for name in (said, linked):
        try:
            if name and ZoneInfo(name).key:
                return name
        except (LookupError, ValueError, OSError):
            continue
    return "UTC"


def instant_of(option: str, text: str, zone: str) -> float:
    """The instant that a word stands for, in seconds since the epoch.

    Args:
        option: Where it was given, for messages.
        text: A date or a time in ISO 8601 (in the zone unless it names one), a span before now such
            as 12h, 7d or 2w, or today, yesterday, week, month: their beginning.
        zone: In whose days.

    Raises:
        UsageError: If it is none of these.
    """
    now = default_ports().wall()
    ago = _AGO.fullmatch(text)
    if ago is None and _SPAN.fullmatch(text):
        msg = f"{option} {text!r} is no span before now that is known."
        hint = "Give whole hours (12h), days (7d) or weeks (2w), or an instant: 2026-11-01T14:00."
        raise UsageError(msg, hint=hint)
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    here = dt.datetime.fromtimestamp(now, ZoneInfo(zone))
    today = here.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    named = {
        "now": here,
        "today": today,
        "yesterday": today - dt.timedelta(days=1),
        "week": today - dt.timedelta(days=today.weekday()),
        "month": today.replace(day=1),
    }
    try:
        found = named.get(text) or dt.datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(zone))
        return found.timestamp()
    except (ValueError, OverflowError):
        msg = f"{option} {text!r} is no instant."
        hint = "Give 2026-11-01, 2026-11-01T14:00, 12h, 7d, 2w, today, yesterday, week or month."
        raise UsageError(msg, hint=hint) from None
