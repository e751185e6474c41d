"""PII without what its extra installs: it finds what it finds, and says what it cannot do."""

from __future__ import annotations

import subprocess
import sys

EXTRAS = ("re2", "phonenumbers", "ahocorasick", "cryptography")

HIDDEN = f"""
import sys

for name in {EXTRAS!r}:
    sys.modules[name] = None  # as if it were not installed
"""

CALL = """
import anyio
from lamella import ChatRequest, ConfigurationError, Pipeline
from lamella.testing import Scripted
from lamella_middlewares.pii import PII, dictionary_detector, regex_detector

TEXT = (
    "I am ada@example.com, +44 20 7946 0958, card 4111 1111 1111 1111, IBAN GB82 WEST 1234 5698 "
    "7654 32, S-123456; see https://ada:pass@example.com/."
)

async def main() -> None:
    told = Scripted([lambda request: request.messages[0].text], repeat=True)
    staff = regex_detector("staff", r"\\bS-\\d{6}\\b")
    pipeline = Pipeline([PII(detectors=[staff])], told)
    response = await pipeline.run(ChatRequest.of(TEXT, model="m"))
    assert response.text == TEXT, response.text
    print(*[word for word in told.requests[0].messages[0].text.split("⟦")[1:]])
    for wants in (
        lambda: PII(scope="session", key="env:KEY"),
        lambda: dictionary_detector("project", ["Heron"]),
    ):
        try:
            wants()
        except ConfigurationError as error:
            print(error)

anyio.run(main)
"""

LOADED = f"""
import sys
import lamella_middlewares.pii

lamella_middlewares.pii.PII()
print([name for name in {EXTRAS!r} if name in sys.modules])
"""


def run(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_works_without_them() -> None:
    """Patterns and numbers go without; sessions and lists of terms say what to install."""
    said = run(HIDDEN + CALL)
    for kind in ("EMAIL", "PHONE", "CARD", "IBAN", "STAFF", "URL_CREDENTIALS"):
        assert f"{kind}_" in said
    assert said.count('pip install "lamella[pii]"') == 2


def test_they_are_not_loaded_before_they_are_needed() -> None:
    """Neither the import of the layer nor making one takes their time."""
    assert run(LOADED).strip() == "[]"
