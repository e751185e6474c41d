"""Route's policies: which of several fit targets gets a request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import (
    CardBook,
    ChatRequest,
    ConfigurationError,
    EmbeddingRequest,
    Finish,
    Image,
    Message,
    ModelCard,
    Pipeline,
    Price,
    Request,
    Target,
    TileRule,
)
from lamella.testing import Scripted, ScriptedAnswer, virtual_ports
from lamella_middlewares import Cost
from lamella_middlewares.route import (
    Candidate,
    Cheapest,
    Fastest,
    LeastInFlight,
    LeastUsed,
    Policy,
    Route,
    Weighted,
)
from lamella_middlewares.route._board import Decaying, Standing
from lamella_middlewares.route._policies import Moment, policy_of

pytestmark = pytest.mark.anyio

ASK = ChatRequest.of("hello", model="m")


def candidate(
    name: str, *, weight: float = 1.0, in_flight: int = 0, ramp: float = 1.0, now: float = 0.0
) -> Candidate:
    """A candidate with so many calls in flight."""
    standing = Standing("", name)
    standing.in_flight = in_flight
    return Candidate(Target(name), standing, weight, ramp, Moment(ASK, now))


def shares(policy: Policy, candidates: Sequence[Candidate], draws: int = 4_000) -> dict[str, float]:
    """How much of the traffic each gets."""
    random = Random(7)
    found = Counter(policy.choose(ASK, candidates, random).name for _ in range(draws))
    return {one.name: found[one.name] / draws for one in candidates}


def near(share: float, expected: float, draws: int = 4_000) -> bool:
    """Within four standard deviations of what chance allows."""
    return abs(share - expected) <= 4 * math.sqrt(expected * (1 - expected) / draws)


# --- weighted --------------------------------------------------------------------------------


def test_shares_follow_the_weights() -> None:
    """A target of weight 3 gets three times as much as one of weight 1."""
    found = shares(Weighted(), [candidate("a", weight=3), candidate("b"), candidate("c", weight=6)])
    assert near(found["a"], 0.3)
    assert near(found["b"], 0.1)
    assert near(found["c"], 0.6)


@given(weights=st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=6), seed=st.integers(0, 1 << 32))
def test_every_policy_chooses_one_of_the_candidates(weights: list[float], seed: int) -> None:
    """Whatever the weights, and whatever chance draws."""
    candidates = [candidate(str(index), weight=each) for index, each in enumerate(weights)]
    for policy in (Weighted(), LeastInFlight(), Fastest(), LeastUsed(), Cheapest()):
        assert policy.choose(ASK.evolve(context=_context()), candidates, Random(seed)) in candidates


def _context() -> Any:
    return ASK.context.evolve(ports=virtual_ports())


# --- least in flight -------------------------------------------------------------------------


def test_of_two_the_emptier_one_is_chosen() -> None:
    """With two targets it is always the emptier one."""
    found = shares(LeastInFlight(), [candidate("full", in_flight=5), candidate("empty")])
    assert found == {"full": 0.0, "empty": 1.0}


def test_empty_targets_share_alike() -> None:
    """Where nothing is in flight, each of three gets a third."""
    found = shares(LeastInFlight(), [candidate(name) for name in "abc"])
    assert all(near(share, 1 / 3) for share in found.values())


def test_a_weight_counts_as_room() -> None:
    """A target of four times the weight is chosen while it has less than four times as many."""
    big, small = candidate("big", weight=4, in_flight=2), candidate("small")
    assert shares(LeastInFlight(), [big, small])["big"] == 1.0
    big.standing.in_flight = 4
    assert shares(LeastInFlight(), [big, small])["big"] == 0.0


def test_two_choices_keep_targets_nearly_even() -> None:
    """Of 10,000 calls that stay, the fullest of ten has hardly more than the mean."""

    def fullest(policy: Policy) -> int:
        candidates, random = [candidate(str(n)) for n in range(10)], Random(3)
        for _ in range(10_000):
            policy.choose(ASK, candidates, random).standing.in_flight += 1
        return max(one.in_flight for one in candidates)

    assert fullest(LeastInFlight()) <= 1_005
    assert fullest(Weighted()) >= 1_030


# --- latency ---------------------------------------------------------------------------------


def measured(name: str, *latencies: float, at: float = 0.0, now: float = 0.0) -> Candidate:
    """A candidate of which these latencies were measured at an instant."""
    one = candidate(name, now=now)
    for latency in latencies:
        one.standing.latency[False].add(latency, at, 30.0)
    return one


def test_the_faster_one_is_chosen() -> None:
    """Besides a few explorers, all go to the target that begins to answer sooner."""
    found = shares(Fastest(), [measured("fast", 0.2), measured("slow", 2.0)])
    assert near(found["slow"], 0.025)
    assert shares(Fastest(explore=0), [measured("fast", 0.2), measured("slow", 2.0)])["slow"] == 0


def test_calls_in_flight_count_against_the_faster_one() -> None:
    """Twice as fast with three times the calls is slower."""
    fast, slow = measured("fast", 1.0), measured("slow", 2.0)
    fast.standing.in_flight = 2
    assert shares(Fastest(explore=0), [fast, slow])["slow"] == 1.0


def test_an_unknown_target_is_tried_by_one_call_at_a_time() -> None:
    """Nothing is known of it, so it gets a call; while that is under way, no further one."""
    known, new = measured("known", 0.1), candidate("new")
    policy = Fastest(explore=0)
    assert policy.choose(ASK, [known, new], Random(1)) is new
    new.standing.in_flight = 1
    assert shares(policy, [known, new])["known"] == 1.0


def test_what_was_measured_long_ago_is_forgotten() -> None:
    """After ten half-lives a target is as good as unknown, and gets its next chance."""
    slow, fast = measured("slow", 60.0, now=301.0), measured("fast", 0.1, at=300.0, now=301.0)
    assert Fastest(explore=0).choose(ASK, [slow, fast], Random(1)) is slow


def test_streams_are_compared_with_streams() -> None:
    """What was measured of answers in one piece says nothing of streams."""
    one = measured("a", 30.0)
    assert one.latency() == 30.0
    streamed = Candidate(one.target, one.standing, 1, 1, Moment(_streamed(), 0))
    assert streamed.latency() is None


def _streamed() -> Request[Any]:
    return ASK.evolve(stream=True)


def test_a_burst_of_measurements_counts_as_many() -> None:
    """A hundred values at one instant outweigh the one before them."""
    mean = Decaying()
    mean.add(10.0, 0.0, 30.0)
    for _ in range(99):
        mean.add(1.0, 0.0, 30.0)
    assert mean.mean(0.0, 300.0) == pytest.approx(1.09)


def test_a_value_counts_half_after_its_half_life() -> None:
    """Old 10 with weight a half, new 1 with weight one."""
    mean = Decaying()
    mean.add(10.0, 0.0, 30.0)
    mean.add(1.0, 30.0, 30.0)
    assert mean.mean(30.0, 300.0) == pytest.approx((5 + 1) / 1.5)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_target_that_has_recovered_gets_its_traffic_back(stream: bool) -> None:
    """It is slow, loses its traffic, becomes the faster one, is explored, and gets it back."""
    delays = {"a": 0.5, "b": 5.0}

    def answer(name: str) -> Any:
        return lambda _: ScriptedAnswer(["x", Finish("stop")], delay=delays[name])

    ports = virtual_ports(seed=5)
    targets = [Scripted([answer(name)], repeat=True, name=name) for name in "ab"]
    pipeline = Pipeline([Route(targets, policy="latency")], "mock", ports=ports)

    async def share_of_b(calls: int) -> float:
        before = len(targets[1].requests)
        for _ in range(calls):
            if stream:
                async with pipeline.stream(ASK) as response:
                    await response.collect()
            else:
                await pipeline.run(ASK)
        return (len(targets[1].requests) - before) / calls

    assert await share_of_b(100) < 0.1
    delays["b"] = 0.05
    await share_of_b(300)
    assert await share_of_b(100) > 0.9


# --- usage -----------------------------------------------------------------------------------


def test_the_least_used_one_is_chosen_for_its_weight() -> None:
    """Tokens of late, over the weight."""
    light, heavy = candidate("light"), candidate("heavy", weight=10)
    light.standing.tokens.add(100, 0.0, 30.0)
    heavy.standing.tokens.add(900, 0.0, 30.0)
    assert LeastUsed().choose(ASK, [light, heavy], Random(1)) is heavy
    heavy.standing.tokens.add(200, 0.0, 30.0)
    assert LeastUsed().choose(ASK, [light, heavy], Random(1)) is light


def test_used_tokens_fade() -> None:
    """Half of them count after the half-life; a clock set back counts as standing still."""
    used = Decaying()
    used.add(100, 60.0, 30.0)
    assert used.sum(90.0, 30.0) == pytest.approx(50)
    assert used.sum(0.0, 30.0) == 100


# --- cost ------------------------------------------------------------------------------------


def chosen(policy: Cheapest, request: Any, *candidates: Candidate) -> str:
    """The name of the chosen one."""
    return policy.choose(request.evolve(context=_context()), candidates, Random(1)).name


PRICES = {
    "cheap_input": {"input": "1", "output": "20"},
    "cheap_output": {"input": "5", "output": "10"},
}


def test_the_price_is_that_of_the_request_at_hand() -> None:
    """A long prompt goes where reading is cheap, a long answer where writing is."""
    both = candidate("cheap_input"), candidate("cheap_output")
    policy = Cheapest(PRICES)
    long_prompt = ChatRequest.of("word " * 20_000, model="m", max_output_tokens=10)
    long_answer = ChatRequest.of("Write a book.", model="m")
    assert chosen(policy, long_prompt, *both) == "cheap_input"
    assert chosen(policy, long_answer, *both) == "cheap_output"


def test_equal_prices_share_by_weight() -> None:
    """Two deployments of one model."""
    both = [candidate("a", weight=3), candidate("b")]
    policy = Cheapest({"a": PRICES["cheap_input"], "b": PRICES["cheap_input"]})
    random, request = Random(2), ASK.evolve(context=_context())
    found = Counter(policy.choose(request, both, random).name for _ in range(2_000))
    assert near(found["a"] / 2_000, 0.75, 2_000)


def test_what_has_no_price_is_chosen_only_among_its_like() -> None:
    """Neither an unknown price nor another currency is taken for free."""
    euro = {"input": "0.01", "output": "0.01", "currency": "EUR"}
    policy = Cheapest({**PRICES, "euro": euro})
    unknown, known = candidate("unknown"), candidate("cheap_input")
    assert chosen(policy, ASK, unknown, known) == "cheap_input"
    assert chosen(policy, ASK, known, candidate("euro")) == "cheap_input"
    assert chosen(policy, ASK, unknown, candidate("unknown too")) in {"unknown", "unknown too"}
    assert chosen(policy, EmbeddingRequest(inputs=("x",)), known, unknown) == "cheap_input"


async def test_pictures_count_as_each_targets_provider_does() -> None:
    """What is cheaper by the token may be dearer by the picture."""
    book = CardBook(builtin=False)
    for name, price, tile in (("many", "1", 5_667), ("few", "10", 170)):
        prices = (Price.of(input=price, output="0"),)
        sees, rule = frozenset({"text", "image"}), TileRule(tile=tile)
        book.register(ModelCard(name, "acme", input=sees, prices=prices, image_tokens=rule))
    route = Route(["many", "few"], policy=Cheapest(book=book), book=book)
    picture = ChatRequest.of(Message.user([Image(url="https://x/y")]), model="m")
    for request, expected in ((picture, "few"), (ASK, "many")):
        transport = Scripted(["x"], name="acme")
        await Pipeline([route], transport, ports=virtual_ports()).run(request)
        assert [sent.model for sent in transport.requests] == [expected]


async def test_prices_come_from_the_model_cards() -> None:
    """The card of the model that a target asks for, at the provider that the request goes to."""
    book = CardBook(builtin=False)
    for name, price in (("large", "10"), ("small", "1")):
        card = ModelCard(name, "acme", prices=(Price.of(input=price, output=price),))
        book.register(card)
    transport = Scripted(["x"], repeat=True, name="acme")
    route = Route(["large", "small"], policy=Cheapest(book=book), book=book)
    pipeline = Pipeline([route], transport, ports=virtual_ports())
    for _ in range(5):
        await pipeline.run(ASK)
    assert {request.model for request in transport.requests} == {"small"}


@pytest.mark.parametrize("cost", [{"small": ("9", "9")}, {"large": ("0.1", "0.1")}])
async def test_prices_are_those_that_cost_bills_by(cost: dict[str, tuple[str, str]]) -> None:
    """The program's own price list, in the layer `Cost`, says which target is the cheapest."""
    own = {"large": ("3", "3"), "small": ("1", "1")} | cost
    table = {name: {"input": read, "output": written} for name, (read, written) in own.items()}
    transport = Scripted(["x"], repeat=True, name="acme")
    route = Route(["large", "small"], policy="cost")
    await Pipeline([route, Cost(table)], transport, ports=virtual_ports()).run(ASK)
    assert [request.model for request in transport.requests] == ["large"]


async def test_a_policy_of_ones_own_may_ask_for_prices() -> None:
    """Each candidate says what the request would be billed by there; None without `Cost`."""
    seen: list[Any] = []

    class Curious:
        asks_prices = True

        def choose(
            self, request: Request[Any], candidates: Sequence[Candidate], random: Random, /
        ) -> Candidate:
            assert request.model == "m"
            seen.append([one.price() for one in candidates])
            return candidates[int(random.random() < 0)]

    price = Price.of(input="1", output="2")
    route = Route(["one", "two"], policy=Curious())
    transport = Scripted(["x"], repeat=True)
    await Pipeline([route, Cost({"one": price}, unknown="note")], transport).run(ASK)
    await Pipeline([route], transport).run(ASK)
    assert seen == [[price, None], [None, None]]


def test_one_that_comes_back_is_let_in_by_and_by() -> None:
    """The cheapest one, at a tenth of its traffic after an ejection."""
    back = candidate("cheap_output", ramp=0.1, weight=0.1)
    random, request = Random(2), ASK.evolve(context=_context())
    candidates = [back, candidate("cheap_input")]
    found = Counter(Cheapest(PRICES).choose(request, candidates, random).name for _ in range(2_000))
    assert near(found["cheap_output"] / 2_000, 0.1, 2_000)


def test_wrong_prices_are_refused() -> None:
    """With the target's name."""
    with pytest.raises(ConfigurationError, match=r"'a'.*per million"):
        Cheapest({"a": {"input": 2.5}})
    with pytest.raises(ConfigurationError, match="table of prices"):
        Cheapest([1])
    with pytest.raises(ConfigurationError, match="output_tokens=-1"):
        Cheapest(output_tokens=-1)


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("weighted", Weighted()),
        ("least-in-flight", LeastInFlight()),
        ("latency", Fastest()),
        ("usage", LeastUsed()),
        ({"use": "latency", "half_life": 60, "explore": 0}, Fastest(half_life=60, explore=0)),
        (Fastest(), Fastest()),
    ],
)
def test_a_policy_is_a_name_a_table_or_an_object(given: Any, expected: Policy) -> None:
    """What a file can say, code can say."""
    assert policy_of(given) == expected


@pytest.mark.parametrize("given", ["fastest", {"use": "x"}, {}, 3, Weighted])
def test_what_is_no_policy_is_refused(given: Any) -> None:
    """Naming those that there are."""
    with pytest.raises(ConfigurationError, match="'least_in_flight'"):
        policy_of(given)


def test_wrong_options_of_a_policy_are_refused() -> None:
    """An unknown one, and one out of range."""
    with pytest.raises(ConfigurationError, match="half_lif"):
        policy_of({"use": "latency", "half_lif": 3})
    with pytest.raises(ConfigurationError, match="explore"):
        policy_of({"use": "latency", "explore": 2})
    with pytest.raises(ConfigurationError, match="half_life=0"):
        Fastest(half_life=0)


class Always:
    """A policy of somebody else."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[list[str]] = []

    def choose(self, request: Any, candidates: Sequence[Candidate], random: Any, /) -> Any:
        """The one at the given place, or the given thing itself."""
        self.seen.append([one.name for one in candidates])
        return candidates[self.answer] if isinstance(self.answer, int) else self.answer


async def test_a_policy_of_ones_own() -> None:
    """Any object with `choose`; its class is the word in the trace."""
    policy = Always(-1)
    pipeline = Pipeline([Route(["a", "b"], policy=policy)], Scripted(["x"]), ports=virtual_ports())
    response = await pipeline.run(ASK)
    assert policy.seen == [["a", "b"]]
    assert response.trace.notes[0].fields == {"target": "b", "by": "always"}


async def test_a_policy_that_chooses_nothing_is_a_bug_with_a_name() -> None:
    """The error says whose, and nothing is sent or stays counted."""
    ports, route = virtual_ports(), Route(["a", "b"], policy=Always(None))
    with pytest.raises(TypeError, match=r"Always.*returned None"):
        await Pipeline([route], Scripted(["x"]), ports=ports).run(ASK)
    assert all(state.in_flight == 0 for state in route.states(ports))


async def test_the_same_seed_gives_the_same_choices() -> None:
    """With seeded chance a run repeats itself; with another seed it does not."""

    async def choices(seed: int) -> list[str | None]:
        transport = Scripted(["x"], repeat=True)
        route = Route(["a", "b", "c"], policy="least_in_flight")
        pipeline = Pipeline([route], transport, ports=virtual_ports(seed))
        for _ in range(30):
            await pipeline.run(ASK)
        return [request.model for request in transport.requests]

    assert await choices(1) == await choices(1)
    assert await choices(1) != await choices(2)
