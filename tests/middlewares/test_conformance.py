"""Every first layer keeps the contract, by the kit that anybody's layer can be run through."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import anyio.lowlevel
import pytest

from lamella import EmbeddingRequest, EmbeddingResponse, Secret, Size
from lamella._memory_spend import MemorySpend
from lamella.testing import check_middleware
from lamella_middlewares.audit import Audit
from lamella_middlewares.budget import Allowance, Budget
from lamella_middlewares.cache import Cache, Stale
from lamella_middlewares.circuit_breaker import CircuitBreaker
from lamella_middlewares.concurrency import Concurrency
from lamella_middlewares.cost import Cost
from lamella_middlewares.deadline import Deadline
from lamella_middlewares.debug import Debug
from lamella_middlewares.fallback import Fallback
from lamella_middlewares.guard import Guard, Inspection, Verdict, allow, blocked_terms, pattern
from lamella_middlewares.hedge import Hedge
from lamella_middlewares.hold import Hold
from lamella_middlewares.load_shed import LoadShed
from lamella_middlewares.log import Log
from lamella_middlewares.pii import PII
from lamella_middlewares.prompt_cache import PromptCache
from lamella_middlewares.rate_limit import RateLimit
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Route
from lamella_middlewares.semantic_cache import SemanticCache
from lamella_middlewares.single_flight import SingleFlight
from lamella_middlewares.spend import Spend
from lamella_middlewares.structured import Structured
from lamella_middlewares.summarise import Summarise
from lamella_middlewares.template import Template
from lamella_middlewares.timeout import Timeout
from lamella_middlewares.tools import Tools
from lamella_middlewares.trim import Trim
from lamella_middlewares.watch import Watch

pytestmark = pytest.mark.anyio


IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where a directory is no disk's: the ends of hundreds of logs are not waited for."""


def ignore(what: object) -> None:
    """A sink, or a watcher, that does nothing."""


async def nothing_wrong(inspection: Inspection) -> Verdict:
    """A rule that has to be awaited."""
    await anyio.lowlevel.checkpoint()
    return allow()


async def embedding(request: EmbeddingRequest) -> EmbeddingResponse:
    """An embedder to which all texts are alike."""
    return EmbeddingResponse.of([[1.0, 0.0]] * len(request.inputs))


def audit(**options: Any) -> Audit:
    """An audit log in a directory of its own, which goes with the test."""
    directory = TemporaryDirectory(
        prefix="lamella-audit-", ignore_cleanup_errors=True, dir=IN_MEMORY
    )
    made = Audit(directory.name, Secret.of_value("k" * 32), fsync="none", **options)
    weakref.finalize(made, directory.cleanup)
    return made


def nothing_to_do(place: str) -> str:
    """A tool that no model asks for."""
    return place


LAYERS: dict[str, Callable[[], Any]] = {
    "deadline": Deadline,
    "timeout": Timeout,
    "fallback": lambda: Fallback(["other"]),
    "retry": Retry,
    "route": lambda: Route([{"name": "one"}, {"name": "two"}]),
    "structured": Structured,
    "semantic_cache": lambda: SemanticCache(embedding, tenant="shared"),
    "semantic_cache, everything": lambda: SemanticCache(embedding, when="all", tenant="shared"),
    "cache": Cache,
    "cache, all of it": lambda: Cache(when="all", jitter=0, piece=5, stale=Stale(60, 60)),
    "single_flight": SingleFlight,
    "load_shed": lambda: LoadShed(3),
    "concurrency": lambda: Concurrency(3),
    "concurrency, adaptive": lambda: Concurrency(3, adaptive="gradient"),
    "budget": lambda: Budget(tokens=10**9, limits=[Allowance(requests=10**6, per="user")]),
    "rate_limit": lambda: RateLimit(1000, 10**6, concurrency=20),
    "rate_limit, a quota": lambda: RateLimit(1000, 10**6, phase="govern"),
    "guard": lambda: Guard([blocked_terms(["forbidden"]), pattern("number", "[0-9]{9}")]),
    "guard, awaited": lambda: Guard(nothing_wrong, look_behind=2),
    "guard, whole texts": lambda: Guard([pattern("number", "x[0-9]+"), nothing_wrong]),
    "hedge": Hedge,
    "hedge, every call": lambda: Hedge(delay=0.005, max_extra=1),
    "circuit_breaker": CircuitBreaker,
    "circuit_breaker, with an eye on time": lambda: CircuitBreaker(slow_after=5),
    "hold": Hold,
    "hold, to the end": lambda: Hold(all=True),
    "cost": lambda: Cost({"m": {"input": "1", "output": "4"}}, unknown="note"),
    "audit": audit,
    "audit, with its names hidden": lambda: audit(identities="digest"),
    "debug": lambda: Debug(sink=ignore),
    "log": lambda: Log(sink=ignore),
    "spend": lambda: Spend(store=MemorySpend()),
    "pii": PII,
    "pii, answers too": lambda: PII(direction="both", strategies={"email": "redact"}),
    "pii, answers whole": lambda: PII(direction="both", strategies={"us_ssn": "block"}),
    "template": Template,
    "prompt_cache": PromptCache,
    "prompt_cache, a key of its own": lambda: PromptCache(key=lambda request: request.model),
    "tools": lambda: Tools([nothing_to_do]),
    "summarise": Summarise,
    "trim": lambda: Trim(Size(tokens=1), otherwise="send"),
    "watch": lambda: Watch(on_request=ignore, on_event=ignore, on_response=ignore, on_error=ignore),
}

SAME_STEPS = {"audit, with its names hidden"}
"""What takes the steps of the entry before it, and writes something else: cancelled there."""


@pytest.mark.parametrize("name", LAYERS)
async def test_it_keeps_the_contract(name: str) -> None:
    """Streamed and not, cancelled at each step, left, dropped, with errors inside."""
    skip = ["cancelled anywhere"] if name in SAME_STEPS else []
    await check_middleware(LAYERS[name], skip=skip)
