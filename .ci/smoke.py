"""Use an installed lamella as a stranger would: `smoke.py EXTRA`, where EXTRA may be empty."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from lamella import ChatRequest, Pipeline
from lamella.transports import Mock
from lamella_middlewares import Cost, Retry

# Which extras bring a module that the library itself does not.
MARKS = {
    "ahocorasick": {"guard", "pii"},
    "cryptography": {"audit", "pii"},
    "cyclopts": {"cli"},
    "genai_prices": {"cost"},
    "h2": {"http2"},
    "jinja2": {"templates"},
    "json_repair": {"structured"},
    "numpy": {"semantic"},
    "phonenumbers": {"pii"},
    "pyarrow": {"parquet"},
    "re2": {"guard", "pii"},
    "tiktoken": {"tokens"},
    "uvloop": {"fast"},
}


def check_extra(extra: str) -> None:
    """The environment has what the extra brings, and not what the other extras bring."""
    for module, extras in MARKS.items():
        found = importlib.util.find_spec(module) is not None
        assert found == (extra in extras), f"{module} with extra {extra!r}: {found}"


def check_run() -> None:
    """A request goes through two layers to the embedded transport and comes back."""
    pipeline = Pipeline([Retry(), Cost(unknown="note")], transport=Mock())
    response = pipeline.run_sync(ChatRequest.of("Why is the sky blue?", model="gpt-4o-mini"))
    assert response.text, "the embedded transport gave no text"


def check_command(extra: str) -> None:
    """`lamella` works with its extra; without it, it says how to install it."""
    command = Path(sys.executable).with_name("lamella")
    child = subprocess.run(  # noqa: S603 -- the script next to this interpreter
        [command, "--help"], capture_output=True, check=False, text=True
    )
    shown = child.stdout + child.stderr
    if extra == "cli":
        assert child.returncode == 0, shown
    else:
        assert child.returncode != 0, shown
        assert "lamella[cli]" in shown, shown
        assert "Traceback" not in shown, shown


if __name__ == "__main__":
    chosen = sys.argv[1]
    check_extra(chosen)
    check_run()
    check_command(chosen)
    print(f"smoke: extra {chosen!r} works")
