"""PII: where values are meanwhile: bounded, out of reach, and sealed where they outlive a call."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from masking import CARD, EMAIL, KEY, TOKEN, ask, echo, noted, pii, sent, stack

from lamella import (
    Blob,
    ChatRequest,
    Context,
    InspectionError,
    Message,
    MisuseError,
    Ports,
    Secret,
    StoreUnavailableError,
)
from lamella.testing import Scripted, each_step, virtual_ports
from lamella_middlewares.pii import Vault
from lamella_middlewares.pii._keys import Keys
from lamella_middlewares.pii._placeholders import FORM, Mint, kind_of, packed
from lamella_middlewares.pii._session import SessionVault
from lamella_middlewares.pii._vault import CallVault

pytestmark = pytest.mark.anyio

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8)
KINDS = st.sampled_from(["email", "card", "us_ssn"])


def session(name: str | None = "s1", tenant: str | None = None) -> Any:
    """A context of that session."""
    return Context(session=name, tenant=tenant)


def say(text: str, name: str | None = "s1", tenant: str | None = None) -> ChatRequest:
    """A request in a session."""
    return ChatRequest.of(text, model="m", context=session(name, tenant))


def sessions(*script: Any, ports: Ports | None = None, **options: Any) -> Any:
    """A pipeline that keeps what it finds for the session."""
    return stack(*script, ports=ports, scope="session", key=Secret.of_value(KEY), **options)


# --- the vault of a call -----------------------------------------------------------------------


class VaultMachine(RuleBasedStateMachine):
    """Placeholders and values stand for each other, one for one, whatever the order."""

    def __init__(self) -> None:
        super().__init__()
        self.vault = CallVault(Mint(b"k" * 32, None, None), Vault())
        self.model: dict[tuple[str, str], str] = {}

    @rule(kind=KINDS, value=TEXTS)
    def put(self, kind: str, value: str) -> None:
        made = self.vault.placeholder(kind, value)
        assert self.model.setdefault((kind, value), made) == made

    @rule(text=TEXTS)
    def look(self, text: str) -> None:
        assert self.vault.begins(text) == any(one.startswith(text) for one in self.model.values())

    @invariant()
    def one_for_one(self) -> None:
        assert len(set(self.model.values())) == len(self.model) == len(self.vault)
        for (kind, value), made in self.model.items():
            assert FORM.fullmatch(made)
            assert (self.vault.value(made), kind_of(made)) == (value, kind)
            assert all(self.vault.begins(made[:size]) for size in range(1, len(made)))
            assert self.vault.literal(made) == made


TestVault = VaultMachine.TestCase


def test_values_that_share_a_token_get_longer_ones() -> None:
    """Where chance gives two values one token, the second's is longer, and the same each time."""

    class Narrow(Mint):
        def digest(self, kind: str, value: str) -> bytes:
            return b"\0" * 12 + super().digest(kind, value)

    made = []
    for _ in range(2):
        vault = CallVault(Narrow(b"k" * 32, None, None), Vault())
        made.append([vault.placeholder("email", f"{name}@example.com") for name in "abc"])
    assert made[0] == made[1]
    lengths = [len(one) for one in made[0]]
    assert lengths[0] == len("⟦EMAIL_12345678⟧") < lengths[1] <= lengths[2]
    assert all(FORM.fullmatch(one) for one in made[0])


@given(st.lists(st.none() | TEXTS, max_size=4), st.lists(st.none() | TEXTS, max_size=4))
def test_parts_of_a_digest_cannot_be_told_otherwise(one: Any, other: Any) -> None:
    """What is digested is unambiguous: other parts are other bytes."""
    assert (packed(*one) == packed(*other)) == (one == other)


def test_a_vault_goes_nowhere() -> None:
    """It cannot be pickled or copied, and shows numbers only."""
    vault = CallVault(Mint(b"k" * 32, None, None), Vault())
    vault.placeholder("email", EMAIL)
    assert repr(vault) == "<CallVault with 1 values>"
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            spread(vault)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [(Vault(max_values=3), "max_values=3"), (Vault(max_bytes=50), "max_bytes=50")],
)
async def test_a_vault_is_bounded(bounds: Vault, words: str) -> None:
    """More than it may hold is refused before anything is sent, saying what to do."""
    pipeline, transport = stack(vault=bounds)
    text = " ".join(f"user{number}@example.com" for number in range(4))
    with pytest.raises(InspectionError, match=words) as caught:
        await ask(pipeline, text)
    assert "vault=Vault(...)" in str(caught.value)
    assert "user0" not in str(caught.value)
    assert transport.requests == []
    lenient, _ = stack(vault=bounds, on_failure="pass")
    for padding in ("", "word " * 10_000):  # looked into at once, and in a thread
        with pytest.raises(InspectionError, match=words):
            await ask(lenient, padding + text)
    redacting, _ = stack(vault=bounds, strategy="redact")
    assert await ask(redacting, text)


async def test_values_are_forgotten_at_the_end(vaults: list[CallVault]) -> None:
    """However a call ends, nothing of the layer's holds a value any more."""
    for stream in (False, True):
        pipeline, _ = stack()
        response = await ask(pipeline, EMAIL, stream=stream)
        assert response.text == f"You said: {EMAIL}"
    assert [vault.values for vault in vaults] == [{}, {}]


@pytest.fixture
def vaults(monkeypatch: pytest.MonkeyPatch) -> list[CallVault]:
    """All that are made during a test."""
    made: list[CallVault] = []

    class Kept(CallVault):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr("lamella_middlewares.pii._middleware.CallVault", Kept)
    return made


def test_values_are_forgotten_when_a_call_is_cancelled(
    anyio_backend: tuple[str, dict[str, Any]], vaults: list[CallVault]
) -> None:
    """Cancelled at any step, streamed and kept for a session: the vault is empty afterwards."""

    def make() -> Any:
        pipeline, _ = sessions(delay_of(echo))

        async def scenario() -> None:
            async with pipeline.stream(say(f"I am {EMAIL}, {CARD}")) as response:
                await response.collect()

        async def check() -> None:
            await pipeline.aclose()
            assert all(vault.values == {} for vault in vaults)

        return scenario, check

    assert each_step(make, backend=anyio_backend[0]) > 3


def delay_of(step: Any) -> Any:
    """The same answer, after a while."""

    async def slow(request: Any) -> Any:
        await request.context.ports.sleep(0.1)
        return step(request)

    return slow


# --- a session's vault -------------------------------------------------------------------------


async def test_a_placeholder_is_understood_in_a_later_call() -> None:
    """What a call of the session has masked, a later one restores; also in another process."""
    ports = virtual_ports()
    pipeline, transport = sessions(ports=ports)
    await pipeline.run(say(f"I am {EMAIL}."))
    masked = transport.requests[0].messages[0].text
    fresh = attrs.evolve(
        virtual_ports(7), stores=attrs.evolve(virtual_ports().stores, blobs=ports.stores.blobs)
    )
    for other in (pipeline, sessions(ports=fresh)[0]):
        for stream in (False, True):
            response = await ask(other, say(f"Again: {masked}"), stream=stream)
            assert response.text == f"You said: Again: I am {EMAIL}."
            assert noted(response, "pii.unknown") == []


@pytest.mark.parametrize(
    ("name", "tenant", "key"),
    [("s2", "a", KEY), ("s1", "b", KEY), ("s1", None, KEY), ("s1", "a", KEY + "!")],
)
async def test_nobody_else_gets_it(name: str, tenant: str | None, key: str) -> None:
    """Another session, another tenant or another key restores nothing of it."""
    ports = virtual_ports()
    pipeline, transport = sessions(ports=ports)
    await pipeline.run(say(f"I am {EMAIL}.", "s1", "a"))
    masked = transport.requests[0].messages[0].text
    token = TOKEN.search(masked)
    assert token is not None
    other, _ = stack(
        lambda _: f"Who is {token[0]}?", ports=ports, scope="session", key=Secret.of_value(key)
    )
    response = await other.run(say("Hello", name, tenant))
    assert response.text == f"Who is {token[0]}?"
    response = await pipeline.run(say("Hello", "s1", "a"))
    assert response.text == "You said: Hello"


@pytest.mark.parametrize("scope", ["request", "session"])
async def test_a_placeholder_of_others_is_a_text_like_any(scope: Any) -> None:
    """A tool that answers with one of another tenant or session gets no value out of it."""
    ports = virtual_ports()
    options: Any = {"ports": ports, "scope": scope, "key": Secret.of_value(KEY)}
    pipeline, transport = stack(**options)
    await pipeline.run(say(f"I am {EMAIL}.", "s1", "a"))
    token = TOKEN.findall(transport.requests[0].messages[0].text)[0]
    found = [Message.user("Look it up."), Message.tool("1", f"It is {token}.")]
    other, told = stack(lambda request: request.messages[1].parts[0].content[0].text, **options)
    for name, tenant in (("s1", "b"), ("s2", "a")):
        request = ChatRequest(messages=found, model="m", context=session(name, tenant))
        assert (await other.run(request)).text == f"It is {token}."
        assert token not in sent(told)


async def test_what_is_kept_says_nothing() -> None:
    """Neither keys, tags nor values of the store hold a value, a session or a tenant."""
    ports = virtual_ports()
    pipeline, _ = sessions(ports=ports)
    await pipeline.run(say(f"{EMAIL} {CARD} ID-4711", "session-of-ada", "acme-inc"))
    entries = vars(ports.stores.blobs)["_entries"]
    assert len(entries) == 3
    seen = repr([(key, entry.data, entry.tags) for key, entry in entries.items()])
    for secret in (EMAIL, "ada", "4111", "4711", "acme", KEY):
        assert secret not in seen


async def test_entries_cannot_be_moved_or_changed() -> None:
    """An entry opens under its own placeholder, session and tenant only; else it is unknown."""
    ports = virtual_ports()
    pipeline, transport = sessions(ports=ports)
    await pipeline.run(say(f"{EMAIL} bob@example.com"))
    one, other = TOKEN.findall(transport.requests[0].messages[0].text)
    blobs = ports.stores.blobs
    entries = vars(blobs)["_entries"]
    first, second = [next(key for key in entries if key.endswith(token)) for token in (one, other)]
    found = await blobs.get(first)
    assert found is not None
    await blobs.put(second, found.data, tags=found.tags)
    await blobs.put(first, found.data[:-1] + b"x", tags=found.tags)
    response = await pipeline.run(say(f"{one} {other}"))
    assert response.text == f"You said: {one} {other}"
    assert noted(response, "pii.unreadable") == [{"count": 2}]


async def test_a_session_is_forgotten() -> None:
    """`forget` erases what is kept of one session, and of no other."""
    ports = virtual_ports()
    pipeline, transport = sessions(ports=ports)
    (layer,) = pipeline.layers
    for name in ("s1", "s2"):
        await pipeline.run(say(f"{EMAIL} {CARD}", name))
    assert await layer.forget(pipeline, session="s1") == 2
    assert await layer.forget(pipeline, session="s1") == 0
    for request, name, known in zip(transport.requests, ("s1", "s2"), (False, True), strict=False):
        response = await pipeline.run(say(request.messages[0].text, name))
        assert (EMAIL in response.text) is known
    with pytest.raises(MisuseError, match="no session"):
        await pii().forget(pipeline, session="s1")


async def test_entries_live_as_long_as_they_are_used() -> None:
    """Each use puts the end off; unused they are gone after `ttl`."""
    pipeline, transport = sessions(vault=Vault(ttl=100))
    await pipeline.run(say(f"I am {EMAIL}."))
    masked = transport.requests[0].messages[0].text
    for asked in (f"I am {EMAIL}.", masked, masked):
        await anyio.sleep(70)
        assert EMAIL in (await pipeline.run(say(asked))).text
    await anyio.sleep(101)
    assert EMAIL not in (await pipeline.run(say(masked))).text


async def test_calls_of_one_session_at_once_lose_nothing() -> None:
    """Each value is an entry of its own: who writes at the same time replaces nothing."""
    pipeline, transport = sessions()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(pipeline.run, say(f"user{number}@example.com"))
    texts = [request.messages[0].text for request in transport.requests]
    response = await pipeline.run(say(" ".join(texts)))
    assert all(f"user{number}@example.com" in response.text for number in range(20))


async def test_a_session_is_bounded() -> None:
    """More values than a session may have are refused before anything is sent."""
    pipeline, transport = sessions(vault=Vault(max_values=2))
    await pipeline.run(say("a@example.com b@example.com"))
    with pytest.raises(InspectionError, match="one session"):
        await pipeline.run(say("c@example.com"))
    assert len(transport.requests) == 1
    assert await pipeline.run(say("a@example.com"))


async def test_a_session_has_to_be_named() -> None:
    """Without one on the context there is nowhere to keep anything."""
    pipeline, transport = sessions()
    with pytest.raises(MisuseError, match=r"Context\(session=\.\.\.\)"):
        await ask(pipeline, EMAIL)
    assert transport.requests == []


# --- a store that does not answer --------------------------------------------------------------


class Sick:
    """A blob store that hangs, or fails while quoting what it was given."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked = 0

    async def _do(self, *given: Any) -> Any:
        self.asked += 1
        if self.how.startswith("hangs"):
            await anyio.sleep(3600)
        if self.how != "well":
            raise OSError(f"lost {given}")

    async def tagged(self, tag: str) -> dict[str, Blob]:
        if self.how.endswith("writing"):
            return {}
        await self._do(tag)
        return {}

    async def put_many(self, values: dict[str, bytes], **more: Any) -> None:
        await self._do(values)

    async def purge(self, *, prefix: str = "", tag: str | None = None) -> int:
        await self._do(tag)
        return 0


@pytest.mark.parametrize("how", ["hangs", "fails", "hangs writing", "fails writing"])
async def test_an_outage_sends_nothing(how: str) -> None:
    """The store's silence is bounded, and means no."""
    ports = virtual_ports()
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=_as_store(Sick(how))))
    pipeline, transport = sessions(ports=ports)
    with pytest.raises(StoreUnavailableError) as caught:
        await pipeline.run(say(EMAIL))
    assert anyio.current_time() <= 1.5
    assert transport.requests == []
    assert (caught.value.layer, caught.value.__cause__) == ("pii", None)
    assert "lost" not in str(caught.value)
    lenient, reached = sessions(ports=ports, on_failure="pass")
    response = await lenient.run(say(EMAIL))
    assert response.text == f"You said: {EMAIL}"
    assert EMAIL not in sent(reached)
    assert noted(response, "pii.passed")[0]["error"] == "StoreUnavailableError"


async def test_a_store_that_is_out_costs_calls_little_time() -> None:
    """Each waits 50 ms for it, and after five that failed none does until a rest is over."""
    sick = Sick("hangs")
    ports = virtual_ports()
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=_as_store(sick)))
    pipeline, transport = sessions(ports=ports)
    for _ in range(20):
        with pytest.raises(StoreUnavailableError):
            await pipeline.run(say(EMAIL))
    with pytest.raises(StoreUnavailableError) as caught:
        await pipeline.run(say(EMAIL))
    assert anyio.current_time() == pytest.approx(0.25)
    assert sick.asked == 5
    assert caught.value.retry_after == pytest.approx(2)
    assert transport.requests == []
    assert (await pipeline.health()).stores["blobs"].well is False
    sick.how = "well"
    await anyio.sleep(2.1)
    assert EMAIL in (await pipeline.run(say(EMAIL))).text


async def test_a_store_that_cannot_be_read_is_not_written_to_either() -> None:
    """What passes nevertheless waits for the store once."""
    sick = Sick("hangs")
    ports = virtual_ports()
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=_as_store(sick)))
    pipeline, _ = sessions(ports=ports, on_failure="pass")
    response = await pipeline.run(say(EMAIL))
    assert (sick.asked, len(noted(response, "pii.passed"))) == (1, 1)
    assert anyio.current_time() == pytest.approx(0.05)


async def test_forgetting_says_when_it_could_not() -> None:
    """A store that does not answer has forgotten nothing, and the error says so."""
    ports = virtual_ports()
    sick = _as_store(Sick("fails"))
    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=sick))
    pipeline, _ = sessions(ports=ports)
    (layer,) = pipeline.layers
    with pytest.raises(StoreUnavailableError, match="does not answer") as caught:
        await layer.forget(pipeline, session="s1")
    assert "lost" not in str(caught.value)


async def test_values_are_opened_when_they_are_needed() -> None:
    """What a session has kept stays sealed until somebody is to get it back."""
    vault = SessionVault(Keys(KEY.encode()), None, "s", Vault())
    context = _context()
    await vault.keep(context, {"⟦EMAIL_00000000⟧": EMAIL})
    await vault.load(context)
    assert "⟦EMAIL_00000000⟧" in vault
    assert EMAIL.encode() not in repr(vars_of(vault)).encode()
    assert vault.open("⟦EMAIL_00000000⟧") == EMAIL
    assert vault.open("⟦EMAIL_00000001⟧") is None


def vars_of(thing: Any) -> dict[str, Any]:
    """What its slots hold."""
    return {name: getattr(thing, name) for name in type(thing).__slots__}


def _as_store(thing: Any) -> Any:
    """As much of a blob store as is asked for."""
    return thing


class _Waits:
    """As much of a context as a session's vault needs."""

    def __init__(self) -> None:
        self.ports = virtual_ports()

    async def wait(self, function: Any, *, what: str) -> Any:
        return await function()


def _context() -> Any:
    return _Waits()


async def test_all_values_of_a_call_are_written_at_once() -> None:
    """However many there are, the store is asked twice: what it has, and to keep what is new."""
    asked: list[str] = []
    ports = virtual_ports()
    blobs: Any = ports.stores.blobs

    class Counting:
        async def tagged(self, tag: str) -> Any:
            asked.append("tagged")
            return await blobs.tagged(tag)

        async def put_many(self, values: dict[str, bytes], **more: Any) -> None:
            asked.append(f"put {len(values)}")
            await blobs.put_many(values, **more)

    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=_as_store(Counting())))
    pipeline, _ = sessions(echo, ports=ports)
    await pipeline.run(say(" ".join(f"user{number}@example.com" for number in range(40))))
    assert asked == ["tagged", "put 40"]


async def test_the_provider_is_asked_once_what_is_kept_is_kept() -> None:
    """Values are written before the request leaves, so that no answer can be unreadable."""
    order: list[str] = []
    ports = virtual_ports()
    blobs: Any = ports.stores.blobs

    class Noting:
        tagged = blobs.tagged

        async def put_many(self, *given: Any, **more: Any) -> None:
            order.append("put")
            await blobs.put_many(*given, **more)

    ports = attrs.evolve(ports, stores=attrs.evolve(ports.stores, blobs=_as_store(Noting())))

    def answer(request: Any) -> str:
        order.append("sent")
        return echo(request)

    pipeline, _ = sessions(answer, ports=ports)
    for _ in range(2):
        await pipeline.run(say(EMAIL))
    assert order == ["put", "sent", "sent"]
    assert isinstance(pipeline.transport, Scripted)
