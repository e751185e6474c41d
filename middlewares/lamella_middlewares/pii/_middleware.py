"""The layer: its options, and what a call needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import attrs

from lamella import (
    ConfigurationError,
    Handler,
    MisuseError,
    Pipeline,
    Request,
    Response,
    Secret,
    ending,
    middleware,
)
from lamella._options import each_of, one_of
from lamella_middlewares.pii import _choices
from lamella_middlewares.pii._clear import ClearVisit
from lamella_middlewares.pii._inspecting import Inspector, Watched, detector_of
from lamella_middlewares.pii._keys import keys_of, must_be_a_key, must_have_sealing
from lamella_middlewares.pii._loading import detectors_of, loading
from lamella_middlewares.pii._passage import Passage
from lamella_middlewares.pii._placeholders import Mint
from lamella_middlewares.pii._records import Matching, Scan, Vault
from lamella_middlewares.pii._session import SessionVault, forget
from lamella_middlewares.pii._strategies import STRATEGIES, Strategy
from lamella_middlewares.pii._vault import CallVault

if TYPE_CHECKING:
    from lamella import Context

R = TypeVar("R", bound=Response)

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_HOME: Final = ("shared", "pii", "inspector")
_instances: Final = count(1)

_KEEPS: Final = "{} would keep, or compare, what PII has not masked yet"
_BEFORE: Final = "{} would reach the provider unmasked, for PII has seen the request before"


def _watched(pii: Any) -> tuple[Watched, ...]:
    return tuple(each_of("detectors", pii.detectors, detector_of))


def _finds(pii: Any) -> frozenset[str]:
    from lamella_middlewares.pii._detect._builtin import DEFAULT_KINDS

    kinds: Any = DEFAULT_KINDS if pii.kinds is None else pii.kinds
    found = {kind for one in pii.strangers for kind in one.kinds}
    if _choices.is_list(kinds):  # or it is refused
        found.update([kind for kind in kinds if isinstance(kind, str)])
    return frozenset(found)


def _blocks(pii: Any) -> bool:
    chosen: Any = pii.strategies if _choices.is_table(pii.strategies) else _NONE  # or refused
    return any(chosen.get(kind, pii.strategy) == "block" for kind in pii.finds)


def _home(pii: Any) -> tuple[str, ...]:
    """The place of what finds things for it, which it shares with who finds the same things."""
    # Nothing but the kinds decides what is found, unless somebody's own detectors do.
    same = not pii.detectors and not pii.allow
    return (*_HOME, ",".join(sorted(pii.finds)) if same else str(next(_instances)))


def _lightly(pii: Any) -> bool:
    """Whether a call needs nothing of the layer where nothing is found in its request."""
    return pii.direction == "in" and pii.scope == "request" and pii.key is None


@middleware(
    phase="govern",
    rank=60,
    effects=("changes requests", "changes events"),
    outside={
        "cache": _KEEPS.format("Cache"),
        "semantic_cache": _KEEPS.format("SemanticCache"),
        "single_flight": _KEEPS.format("SingleFlight"),
        "summarise": _KEEPS.format("Summarise"),
        "trim": _KEEPS.format("Trim"),
        "guard": "what Guard asks a model about would be asked with the data that PII masks",
    },
    inside={
        "tools": _BEFORE.format("what tools answer"),
        "template": _BEFORE.format("the variables of a template"),
        "structured": _BEFORE.format("the answers that Structured sends back for correction"),
        "retrieval": _BEFORE.format("the documents that are found"),
    },
)
@attrs.frozen(eq=False)
class PII:
    """Masks personal data before the provider, and restores it in the answer.

    Every text of a request is looked into, whatever the operation: messages, tool results and
    arguments, definitions, names, documents, and what only the provider knows. What is found is
    replaced by a placeholder, `⟦EMAIL_K7Q2M9XA⟧`, the same for the same value; where the model
    writes one, streamed or not, in text, reasoning or arguments of tools, the caller reads the
    value.

    Args:
        kinds: Which of the built-in kinds are looked for. None is all but `url`.
        strategies: What is done with some kinds, by kind; see `strategy`.
        strategy: What is done with the rest. `"placeholder"`; `"redact"` writes `[EMAIL]`; `"mask"`
            keeps a little, such as the last four digits of a card; `"hash"` writes
            `[EMAIL:3f9a11c20b7e]`, the same for the same value; `"block"` lets nothing pass that
            has it.
        direction: `"in"` masks requests; `"out"` masks what the model brings of itself in its
            answers; `"both"`.
        scope: How long a placeholder stands for its value: `"request"`, for the call; `"session"`,
            for all calls with the same `context.session`, whose values are kept sealed in
            `ports.stores.blobs`. A session needs a key.
        key: The key that placeholders are made with: a `Secret`, or a reference such as
            `"env:PII_KEY"`, of 16 characters or more. None is a number of this process's own:
            other processes, and this one after a restart, make other placeholders.
        restore_tools: The tools in whose arguments values are restored; True for all. The others
            get placeholders, and what they answer with them is understood.
        allow: What is nobody's data: texts, in whatever case, and `Matching(...)`.
        detectors: Further detectors: objects, registered names, or tables with `use` and options.
        on_failure: What happens when texts cannot be looked into, or a session's vault cannot be
            reached: `"refuse"` lets nothing pass; `"pass"` lets it pass, with a warning.
        scan: How texts are looked into.
        vault: Where values are meanwhile.

    Raises:
        ConfigurationError: If an option is wrong.
    """

    kinds: tuple[str, ...] | None = attrs.field(
        default=None, converter=_choices.names, validator=_choices.built_in
    )
    detectors: tuple[Any, ...] = attrs.field(
        default=(), converter=_choices.several, repr=_choices.words_for, kw_only=True
    )
    strangers: tuple[Watched, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_watched, takes_self=True)
    )
    finds: frozenset[str] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_finds, takes_self=True)
    )
    strategies: Mapping[str, Strategy] = attrs.field(
        default=_NONE, validator=_choices.strategies, kw_only=True
    )
    strategy: Strategy = attrs.field(
        default="placeholder", validator=one_of(*STRATEGIES), kw_only=True
    )
    direction: Literal["in", "out", "both"] = attrs.field(
        default="in", validator=one_of("in", "out", "both"), kw_only=True
    )
    scope: Literal["request", "session"] = attrs.field(
        default="request", validator=one_of("request", "session"), kw_only=True
    )
    key: Secret | None = attrs.field(default=None, converter=_choices.key, kw_only=True)
    restore_tools: bool | tuple[str, ...] = attrs.field(
        default=(), converter=_choices.tools, validator=_choices.tool_names, kw_only=True
    )
    allow: tuple[str | Matching, ...] = attrs.field(
        default=(), converter=_choices.entries, repr=False, kw_only=True
    )
    on_failure: Literal["refuse", "pass"] = attrs.field(
        default="refuse", validator=one_of("refuse", "pass"), kw_only=True
    )
    scan: Scan = attrs.field(factory=Scan, validator=_choices.record(Scan), kw_only=True)
    vault: Vault = attrs.field(factory=Vault, validator=_choices.record(Vault), kw_only=True)
    blocks: bool = attrs.field(
        init=False, repr=False, default=attrs.Factory(_blocks, takes_self=True)
    )
    _home: tuple[str, ...] = attrs.field(
        init=False, repr=False, default=attrs.Factory(_home, takes_self=True)
    )
    _lightly: bool = attrs.field(
        init=False, repr=False, default=attrs.Factory(_lightly, takes_self=True)
    )

    def __attrs_post_init__(self) -> None:
        """Check what several options say together."""
        if not self.finds:
            raise ConfigurationError(
                "PII(kinds=()) looks for nothing.", hint="Name a kind, or give a detector."
            )
        if self.scope == "session":
            if self.key is None:
                raise ConfigurationError(
                    'PII(scope="session") needs a key: it seals what is kept of a session.',
                    hint='Give one, such as key="env:PII_KEY", the same in every process.',
                )
            if self.direction == "out":
                raise ConfigurationError(
                    'PII(scope="session", direction="out") would keep nothing: requests are not '
                    "masked.",
                    hint='Use direction="both", or leave out the scope.',
                )
            must_have_sealing()

    @property
    def looks_in(self) -> bool:
        """Whether requests are masked."""
        return self.direction != "out"

    @property
    def looks_out(self) -> bool:
        """Whether answers are."""
        return self.direction != "in"

    def strategy_of(self, kind: str) -> Strategy:
        """What is done with a kind."""
        return self.strategies.get(kind, self.strategy)

    async def __call__(self, request: Request[R], call_next: Handler) -> R:
        """Send the request on masked, and restore the answer.

        Raises:
            BlockedError: If something was found that must not pass.
            InspectionError: If a text could not be looked into, or has more than may be kept.
            StoreUnavailableError: If the session's vault could not be reached.
            MisuseError: If there is no session where values are kept for one.
        """
        context = request.context
        inspector = self._at_hand(context) or await self._inspector(context)
        if self._lightly and inspector.clear.has(request, self.scan.max_characters):
            visit = ClearVisit(inspector, request)
            return await ending(call_next, request, visit.end, answered=visit.answered)
        sessions = self.scope == "session"
        if sessions and not context.session:
            raise MisuseError(
                'PII(scope="session") was asked by a request without a session.',
                hint="Say which: request.context with Context(session=...).",
                layer="pii",
            )
        keys = await keys_of(self.key, context, sealing=sessions)
        kept: SessionVault | None = None
        if sessions:
            assert context.session is not None  # noqa: S101 - refused above
            kept = SessionVault(keys, context.tenant, context.session, self.vault)
        mint = Mint(keys.tokens, context.tenant, context.session if sessions else None)
        passage = Passage[R](self, inspector, CallVault(mint, self.vault, kept), kept, call_next)
        return await ending(passage, request, passage.end)

    async def check(self) -> None:
        """See that the key can be had and is one; `lamella test-config` asks this.

        Raises:
            SecretError: If it cannot be had.
            ConfigurationError: If it is too short.
        """
        if self.key is not None:
            must_be_a_key(await self.key.fetch())

    async def forget(self, pipeline: Pipeline, *, session: str, tenant: str | None = None) -> int:
        """Erase what is kept of a session: what its placeholders stand for is gone for good.

        Args:
            pipeline: Whose stores the session was kept in: the one that this layer is in.
            session: Which, as in `Context(session=...)`.
            tenant: Whose, as in `Context(tenant=...)`.

        Returns:
            How many values that were.

        Raises:
            MisuseError: If this layer keeps none.
            StoreUnavailableError: If the store does not answer: then nothing may be gone.
        """
        if self.scope != "session" or self.key is None:
            raise MisuseError(
                "PII.forget: values are kept as long as the call lasts, and there is no session.",
                hint='Only PII(scope="session") keeps any.',
            )
        from lamella_middlewares.pii._keys import kept as keys_kept

        stores = pipeline.ports.stores
        keys = keys_kept(stores.local, await self.key.fetch(ports=pipeline.ports))
        return await forget(stores.blobs, keys, tenant, session)

    def _at_hand(self, context: Context) -> Inspector | None:
        """What finds personal data; None if it is still to be loaded."""
        if not loading(self.kinds).done:
            return None
        return context.ports.stores.local.get(self._home, partial(self._made, context))

    async def _inspector(self, context: Context) -> Inspector:
        """What finds personal data; made once, in a thread, as it takes imports."""
        loaded = loading(self.kinds)
        while not loaded.done:
            await loaded.ready(context)
            if not loaded.done:  # the deadline has left no time for it
                await context.sleep(0, what="loading PII's detectors")
        local = context.ports.stores.local
        return local.get(self._home, lambda: self._made(context))

    def _made(self, context: Context) -> Inspector:
        from lamella_middlewares.pii._detect._kept import KeptFindings
        from lamella_middlewares.pii._detect._scanner import Scanner

        ports = context.ports
        cache = ports.stores.local.get(
            ("shared", "pii", "findings"), lambda: KeptFindings(ports.random.randbytes(32))
        )
        allow = [one.safe if isinstance(one, Matching) else one for one in self.allow]
        detectors = [*self.strangers, *detectors_of(self.kinds)]
        return Inspector(Scanner(detectors, allow=allow, cache=cache), self.strangers)
