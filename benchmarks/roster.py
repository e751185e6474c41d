"""Who takes part, and in which environment each of them runs. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Entry:
    """A contender that runs in a process of its own.

    Attributes:
        name: What it is called in tables.
        opener: Where it is found, as `module:name`.
        environment: Of `benchmarks.environments`; None is this project's.
        distributions: Whose versions are written down.
        imports: What a program that uses it imports, for import times; empty if nothing of its own.
    """

    name: str
    opener: str
    environment: str | None = None
    distributions: tuple[str, ...] = ()
    imports: str = ""


FLOOR: Final = "raw socket floor"
SDK: Final = "openai SDK"
LITELLM: Final = "LiteLLM acompletion"
TENSORZERO: Final = "TensorZero embedded (Rust)"
BARE, EIGHT, PRODUCTION = "Lamella", "Lamella, eight layers", "Lamella, `production`"
BARE_FAST, EIGHT_FAST = "Lamella fast", "Lamella fast, eight layers"
PRODUCTION_FAST: Final = "Lamella fast, `production`"

ENTRIES: Final = (
    Entry(FLOOR, "benchmarks.clients:floor", None, ("msgspec",)),
    Entry("aiohttp", "benchmarks.clients:aiohttp", None, ("aiohttp",), "import aiohttp"),
    Entry("httpx2", "benchmarks.clients:httpx2", None, ("httpx2",), "import httpx2"),
    Entry(SDK, "benchmarks.clients:sdk", None, ("openai",), "import openai"),
    Entry(
        "openai SDK over aiohttp",
        "benchmarks.clients:sdk_over_aiohttp",
        "openai-aiohttp",
        ("openai", "aiohttp"),
    ),
    Entry(BARE_FAST, "benchmarks.contenders:bare_fast"),
    Entry(EIGHT_FAST, "benchmarks.contenders:eight_fast"),
    Entry(PRODUCTION_FAST, "benchmarks.contenders:production_fast"),
    Entry(BARE, "benchmarks.contenders:bare", None, ("lamella",), "import lamella"),
    Entry(EIGHT, "benchmarks.contenders:eight"),
    Entry(PRODUCTION, "benchmarks.contenders:production"),
    Entry(
        TENSORZERO,
        "benchmarks.peers:tensorzero",
        "tensorzero",
        ("tensorzero",),
        "import tensorzero",
    ),
    Entry(
        "pydantic-ai direct",
        "benchmarks.peers:pydantic_ai",
        "pydantic-ai",
        ("pydantic-ai-slim", "openai"),
        "import pydantic_ai.direct, pydantic_ai.models.openai",
    ),
    Entry(
        "LangChain ChatOpenAI",
        "benchmarks.peers:langchain",
        "langchain",
        ("langchain-openai", "openai"),
        "import langchain_openai",
    ),
    Entry(
        LITELLM,
        "benchmarks.peers:litellm_acompletion",
        "litellm",
        ("litellm", "openai"),
        "import litellm",
    ),
    Entry("LiteLLM Router", "benchmarks.peers:litellm_router", "litellm"),
)


def entries(names: Iterable[str]) -> list[Entry]:
    """Those of these names, in the order of the table."""
    wanted = set(names)
    return [entry for entry in ENTRIES if entry.name in wanted]
