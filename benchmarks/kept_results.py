"""What a run has found so far, on disk after each part: an interrupted run is not lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = Path(__file__).parent / "results"
NAME: Final = "speed.json"


class Results:
    """A JSON document of parts, written whenever one of them changes.

    Args:
        folder: Where it is kept; what is there of other parts is left in place.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        folder.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, Any] = load(self.path) if self.path.exists() else {}

    def keep(self, part: str, value: Any) -> None:
        """Write one part anew; the file is always whole, and names no folder of here."""
        self.found[part] = json.loads(_without_places(json.dumps(value)))
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps(self.found, indent=1) + "\n")
        aside.replace(self.path)


def _without_places(text: str) -> str:
    """The same, where an error has said in which folder it was."""
    for place, word in ((ROOT, "."), (Path(sys.prefix), "."), (Path.home(), "~")):
        text = text.replace(str(place), word)
    return text


def load(path: Path) -> dict[str, Any]:
    """The results in a file.

    Raises:
        ValueError: If it holds something else.
    """
    found: Any = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no results: it is to be a JSON object")
    return found
