"""A file of a program's own prices: TOML or JSON, a table for each model.

For example::

    ["openai/gpt-4o-mini"]
    input = "0.12"
    output = "0.48"
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lamella._card_files import read_toml
from lamella._errors import ConfigurationError


def read_prices(path: object, what: str) -> tuple[str, Mapping[str, Any]]:
    """What a file of prices is called in messages, and its tables.

    Args:
        path: Where it is; `.json` is read as JSON, everything else as TOML.
        what: The option, for messages.

    Raises:
        ConfigurationError: If it is no path, cannot be read, or does not hold a table.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigurationError(
            f"{what} is a table of prices by model, or a file's path, not {type(path).__name__}.",
            hint='Write prices={"my-model": {"input": "0.50", "output": "1.50"}}.',
        )
    place = os.fspath(cast("str | os.PathLike[str]", path))
    if not place.lower().endswith(".json"):
        return place, read_toml(place)
    try:
        found: object = json.loads(Path(place).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"{place}: cannot be read ({error.strerror}).",
            hint="Check the path and its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: not a JSON file ({error}).") from error
    if not isinstance(found, Mapping):
        raise ConfigurationError(
            f"{place}: expected an object with a price for each model.",
            hint='Write {"my-model": {"input": "0.50", "output": "1.50"}}.',
        )
    return place, cast("Mapping[str, Any]", found)
