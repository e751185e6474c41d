"""The reference page says what the docstrings say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_page_is_up_to_date() -> None:
    """Every public name stands in the page with the first words of its docstring."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
