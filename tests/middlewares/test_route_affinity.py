"""Route's affinity and rollouts: who stays where, and who is in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    ChatRequest,
    ConfigurationError,
    Context,
    EmbeddingRequest,
    Image,
    Message,
    NoTargetError,
    Opaque,
    Part,
    Pipeline,
    ServerError,
    Target,
    Text,
    Tool,
)
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.retry import Retry
from lamella_middlewares.route import Affinity, Ejection, Rollout, Route
from lamella_middlewares.route._affinity import PREFIX, affinity_of, fraction, prompt_key
from lamella_middlewares.route._rollout import rollouts_of

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")
NAMES = ["a", "b", "c", "d"]
KEYS = [f"session {number}" for number in range(2_000)]


def of(**context: Any) -> ChatRequest:
    """A request of somebody's."""
    return ASK.evolve(context=Context(**context))


class Town:
    """A route among targets that all answer."""

    def __init__(self, *names: str, **options: Any) -> None:
        self.ports = virtual_ports(seed=1)
        self.targets = {name: Scripted(["x"], repeat=True, name=name) for name in names}
        self.route = Route(list(self.targets.values()), **options)
        self.pipeline = Pipeline([self.route], "mock", ports=self.ports)

    async def ask(self, request: ChatRequest) -> str:
        """Where a request goes."""
        return str((await self.pipeline.run(request)).served_by)

    async def where(self, keys: list[str], **context: Any) -> dict[str, str]:
        """Where each session goes."""
        return {key: await self.ask(of(session=key, **context)) for key in keys}


# --- ranks -----------------------------------------------------------------------------------


def owners(names: list[str], weights: dict[str, float] | None = None) -> dict[str, str]:
    """The first target of each key."""
    affinity = Affinity()
    of_one = dict.fromkeys(names, 1.0) | (weights or {})
    return {key: affinity.ranked(key, None, names, of_one)[0] for key in KEYS}


def test_keys_are_spread_by_weight() -> None:
    """Each of four targets owns a quarter; one of weight 3 owns half."""
    assert all(430 < count < 570 for count in Counter(owners(NAMES).values()).values())
    assert 920 < Counter(owners(NAMES, {"a": 3}).values())["a"] < 1_080


def test_only_the_keys_of_a_target_that_leaves_move() -> None:
    """All others stay where they are; and come back with it."""
    before, after = owners(NAMES), owners(["a", "b", "d"])
    moved = [key for key in KEYS if before[key] != after[key]]
    assert {before[key] for key in moved} == {"c"}
    assert len(moved) == list(before.values()).count("c")


def test_a_weight_moves_keys_only_to_or_from_its_target() -> None:
    """Raising one weight takes keys from the others, and moves none between those."""
    before, after = owners(NAMES), owners(NAMES, {"b": 2})
    assert {after[key] for key in KEYS if before[key] != after[key]} == {"b"}


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=5))
def test_a_stable_hash_tells_texts_apart(one: list[str], other: list[str]) -> None:
    """The same texts give the same number from 0 to below 1, others give another."""
    assert 0 <= fraction(*one) < 1
    assert (fraction(*one) == fraction(*other)) == (one == other)


def test_a_stable_hash_is_the_same_in_every_release() -> None:
    """Sessions and rollouts survive an upgrade."""
    assert fraction("salt", "tenant", "user") == pytest.approx(0.6739709683124805)


# --- sessions --------------------------------------------------------------------------------


async def test_a_session_stays_where_it_is() -> None:
    """However often it asks; the word in the trace is why."""
    town = Town(*NAMES, affinity="session")
    first = await town.where(KEYS[:60])
    assert await town.where(KEYS[:60]) == first
    assert len(set(first.values())) == 4
    response = await town.pipeline.run(of(session="s"))
    assert response.trace.notes[0].fields["by"] == "session"


async def test_another_process_sends_a_session_to_the_same_target() -> None:
    """Nothing is kept: a fresh stack with fresh stores decides alike."""
    one, other = Town(*NAMES, affinity="session"), Town(*NAMES, affinity="session")
    assert await one.where(KEYS[:60]) == await other.where(KEYS[:60])


async def test_tenants_do_not_share_a_session() -> None:
    """The same name in another tenant is another session."""
    town = Town(*NAMES, affinity="session")
    ours, theirs = await town.where(KEYS[:60], tenant="x"), await town.where(KEYS[:60], tenant="y")
    assert ours != theirs


async def test_what_belongs_to_nothing_is_left_to_the_policy() -> None:
    """Without a session, chance decides."""
    town = Town(*NAMES, affinity="session")
    assert len({await town.ask(ASK) for _ in range(40)}) == 4


async def test_while_its_target_is_away_a_session_goes_to_its_next_one_and_comes_back() -> None:
    """Only the sessions of that target move, all to one other each, and back again."""
    town = Town(*NAMES, affinity="session", ejection=Ejection(slow_start=0))
    before = await town.where(KEYS[:100])
    town.route.rest("b", 60, ports=town.ports)
    during = await town.where(KEYS[:100])
    assert {before[key] for key in KEYS[:100] if before[key] != during[key]} == {"b"}
    assert await town.where(KEYS[:100]) == during
    await anyio.sleep(61)
    assert await town.where(KEYS[:100]) == before


async def test_beyond_its_ranks_the_policy_decides() -> None:
    """With two targets of three away, a session whose first two they are is not bound."""
    town = Town("a", "b", "c", "d", affinity={"by": "session", "ranks": 1})
    before = await town.where(KEYS[:30])
    town.route.isolate("b", ports=town.ports)
    mine = [key for key in KEYS[:30] if before[key] == "b"]
    seen = [await town.where(mine) for _ in range(6)]
    assert any(one != seen[0] for one in seen)


async def test_a_full_target_passes_its_keys_on() -> None:
    """Of calls that all have one key, no target has more than twice the mean in flight."""
    ports = virtual_ports(seed=1)
    targets = [Scripted([[5.0, "x"]], repeat=True, name=name) for name in NAMES]
    route = Route(targets, affinity=Affinity("session", ranks=4, load=2.0))
    pipeline = Pipeline([route], "mock", ports=ports)
    counts: list[int] = []
    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(_quietly, pipeline)
        await anyio.sleep(1)
        counts += sorted(state.in_flight for state in route.states(ports))
    assert sum(counts) == 40
    assert counts[-1] <= 21
    assert counts[-2] > 0


async def _quietly(pipeline: Pipeline) -> None:
    with pytest.raises(Exception, match="terminal signal"):
        await pipeline.run(of(session="one"))


async def test_affinity_by_a_function() -> None:
    """A function of the request; None belongs to nothing; anything else is a mistake."""
    town = Town(*NAMES, affinity=lambda request: request.model)
    assert len({await town.ask(ASK) for _ in range(20)}) == 1
    wrong = Town(*NAMES, affinity=lambda _: 3)
    with pytest.raises(TypeError, match="returned int"):
        await wrong.ask(ASK)
    nothing = Town(*NAMES, affinity=lambda _: None)
    assert len({await nothing.ask(ASK) for _ in range(40)}) == 4


# --- prompts ---------------------------------------------------------------------------------


def chat(*texts: str, system: str = "Be brief.", **fields: Any) -> ChatRequest:
    """A conversation: instructions, then user and assistant in turn."""
    roles = ["user", "assistant"] * len(texts)
    messages = [Message.system(system), *map(Message, roles, texts)]
    return ChatRequest(messages=messages, **{"model": "m", **fields})


def test_a_conversation_keeps_its_beginning() -> None:
    """Later messages change nothing; instructions, model, tools and the first message do."""
    key = prompt_key(chat("Hi"), 1)
    assert prompt_key(chat("Hi", "Hello!", "And now?"), 1) == key
    assert prompt_key(chat("Bye"), 1) != key
    assert prompt_key(chat("Bye"), 0) == prompt_key(chat("Hi"), 0)
    assert prompt_key(chat("Hi", system="Be long."), 1) != key
    assert prompt_key(chat("Hi", model="n"), 1) != key
    assert prompt_key(chat("Hi", tools=[Tool("t", "", {})]), 1) != key
    assert prompt_key(EmbeddingRequest(inputs=("x",)), 1) is None


def test_a_beginning_is_bounded_and_knows_pictures() -> None:
    """Of a long message its first characters count; of a picture its address or size."""
    key = prompt_key(chat("x" * 3 * PREFIX), 1) or ""
    assert len(key) < 2 * PREFIX

    def picture(**image: Any) -> str | None:
        parts: list[Part] = [Text("see"), Image(**image)]
        return prompt_key(ChatRequest(messages=[Message.user(parts)]), 1)

    assert picture(url="https://a") != picture(url="https://b")
    assert picture(data=b"1", media_type="image/png") == picture(data=b"2", media_type="image/png")
    opaque = Message.user([Opaque({"type": "x", "v": 1})])
    assert "'v': 1" in str(prompt_key(ChatRequest(messages=[opaque]), 1))


async def test_a_conversation_stays_with_its_warm_cache() -> None:
    """All its turns go where the first one went."""
    town = Town(*NAMES, affinity="prompt")
    for number in range(20):
        turns = [f"question {number}", "answer", "next", "answer", "last"]
        seen = {await town.ask(chat(*turns[:upto])) for upto in (1, 3, 5)}
        assert len(seen) == 1


@pytest.mark.parametrize("given", ["sessions", 3, {"by": "x"}, {"by": "user", "rank": 1}])
def test_what_is_no_affinity_is_refused(given: Any) -> None:
    """With what there is."""
    with pytest.raises(ConfigurationError, match=r"affinity|by|rank"):
        affinity_of(given)


async def _asynchronous(request: Any) -> str:
    return "x"


@pytest.mark.parametrize(
    "options", [{"by": _asynchronous}, {"ranks": 0}, {"load": 0.5}, {"messages": -1}]
)
def test_wrong_options_of_affinity_are_refused(options: dict[str, Any]) -> None:
    """By name."""
    [name] = options
    with pytest.raises(ConfigurationError, match=rf"Affinity\({name}="):
        Affinity(**options)


def test_prompts_have_a_bound_on_load_unless_it_is_given() -> None:
    """All traffic may have one beginning; sessions do not."""
    assert (Affinity("prompt").load, Affinity("session").load) == (2.0, None)
    assert Affinity("prompt", load=None).load is None


# --- rollouts --------------------------------------------------------------------------------

USERS = [f"user {number}" for number in range(2_000)]


def included(rollout: Rollout, users: Sequence[str] = USERS) -> set[str]:
    """Who is in."""
    random = Random(1)
    return {user for user in users if rollout.includes(Context(user=user), random)}


def test_a_rollout_includes_its_share() -> None:
    """Ten of a hundred, within what chance allows; 0 nobody, 100 everybody."""
    assert 150 < len(included(Rollout("new", 10))) < 250
    assert included(Rollout("new", 0)) == set()
    assert included(Rollout("new", 100)) == set(USERS)


@given(low=st.floats(0, 100), high=st.floats(0, 100))
def test_a_higher_percentage_never_takes_anybody_out(low: float, high: float) -> None:
    """Whoever is in stays in while it rises, and comes out in the opposite order."""
    low, high = sorted((low, high))
    rollout = Rollout("new", low)
    before = included(rollout, USERS[:100])
    rollout.percent = high
    assert before <= included(rollout, USERS[:100])


def test_rollouts_of_other_names_divide_the_users_independently() -> None:
    """A tenth of a tenth is in both."""
    both = included(Rollout("new", 10, name="one")) & included(Rollout("new", 10, name="two"))
    assert 2 < len(both) < 45


async def test_users_get_the_new_target_and_nobody_else_does() -> None:
    """Always the same users; the arm is in the trace and in the tags that inner layers see."""
    rollout = Rollout("new", 20, name="trial")
    town = Town("old", "other", "new", rollout=rollout)
    inside = included(rollout)
    for user in USERS[:100]:
        response = await town.pipeline.run(of(user=user))
        assert (response.served_by == "new") == (user in inside)
        arm = response.trace.notes[0]
        assert arm.fields["arm"] == ("new" if user in inside else "control")
        assert arm.fields["rollout"] == "trial"
    for name, target in town.targets.items():
        arms = {request.context.tags["trial"] for request in target.requests}
        assert arms == {"new" if name == "new" else "control"}


async def test_a_rollout_is_rolled_back_by_one_number() -> None:
    """From the next call on."""
    town = Town("old", "new", rollout={"target": "new", "percent": 100})
    assert await town.ask(of(user="u")) == "new"
    town.route.rollout[0].percent = 0
    assert await town.ask(of(user="u")) == "old"


async def test_those_who_are_in_get_the_old_target_while_the_new_one_is_away() -> None:
    """The others never get the new one, not even if nothing else is left."""
    town = Town("old", "new", rollout=Rollout("new", 100))
    town.route.isolate("new", ports=town.ports)
    assert await town.ask(of(user="u")) == "old"
    town.route.reset("new", ports=town.ports)
    town.route.isolate("old", ports=town.ports)
    assert await town.ask(of(user="u")) == "new"
    town.route.rollout[0].percent = 0
    with pytest.raises(NoTargetError, match="new: it gets the traffic of its rollout only"):
        await town.ask(of(user="u"))


async def test_without_a_user_chance_decides() -> None:
    """About half of the calls that nobody is behind."""
    town = Town("old", "new", rollout=Rollout("new", 50))
    assert 10 < [await town.ask(ASK) for _ in range(60)].count("new") < 50


async def test_the_first_rollout_that_includes_a_user_wins() -> None:
    """Two trials beside each other; a user of both is in the first one's arm."""
    first, second = Rollout("x", 50, name="one"), Rollout("y", 50, name="two")
    town = Town("old", "x", "y", rollout=[first, second])
    for user in USERS[:60]:
        expected = "x" if user in included(first) else "y" if user in included(second) else "old"
        assert await town.ask(of(user=user)) == expected


async def test_a_failed_new_target_is_not_asked_again_in_the_same_turn() -> None:
    """Its users' next try goes to the old one."""
    new = Scripted([ServerError("x")], repeat=True, name="new")
    old = Scripted(["fine"], repeat=True, name="old")
    route = Route([old, new], rollout=Rollout("new", 100))
    pipeline = Pipeline([Retry(base=0.01), route], "mock", ports=virtual_ports())
    response = await pipeline.run(of(user="u"))
    assert (response.served_by, len(new.requests)) == ("old", 1)


async def test_those_who_are_in_get_a_failed_new_target_rather_than_none() -> None:
    """Its error is more use than one which says that nothing is left."""
    new = Scripted([ServerError("x"), "fine"], name="new")
    route = Route([Target("old"), new], weights={"old": 0}, rollout=Rollout("new", 100))
    pipeline = Pipeline([Retry(base=0.01), route], "mock", ports=virtual_ports())
    assert (await pipeline.run(of(user="u"))).served_by == "new"


@pytest.mark.parametrize("percent", [-1, 101, "10", None])
def test_a_wrong_percentage_is_refused_whenever_it_is_set(percent: Any) -> None:
    """When the rollout is made, and later; the old one stays."""
    with pytest.raises(ConfigurationError, match="percent="):
        Rollout("new", percent)
    rollout = Rollout("new", 10)
    with pytest.raises(ConfigurationError, match="percent="):
        rollout.percent = percent
    assert rollout.percent == 10


@pytest.mark.parametrize("given", ["new", 3, ["new"], {"target": "new", "by": ["x"]}, {}])
def test_what_is_no_rollout_is_refused(given: Any) -> None:
    """A name alone is none."""
    with pytest.raises(ConfigurationError, match=r"ollout|target|by"):
        rollouts_of(given)


def test_a_rollout_must_fit_its_route() -> None:
    """Its target must be one, and somebody must serve the others."""
    with pytest.raises(ConfigurationError, match=r"'nobody'.*There are: a, b"):
        Route(["a", "b"], rollout=Rollout("nobody", 10))
    with pytest.raises(ConfigurationError, match="leaves no target"):
        Route(["a"], rollout=Rollout("a", 10))
