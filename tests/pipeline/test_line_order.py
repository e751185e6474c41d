"""In which order those who wait go in: fair between tenants, by priority, and nobody starves."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamella._line_order import Order, Ticket


def drained(order: Order) -> list[Ticket]:
    """The tickets in the order in which they go."""
    found: list[Ticket] = []
    while (first := order.first()) is not None:
        found.append(first)
        assert order.remove(first, entered=True)
    return found


def an_order(*tickets: Ticket, aging: float = 10.0) -> Order:
    """An order with these in it."""
    order = Order(aging)
    for ticket in tickets:
        order.add(ticket)
    return order


def test_first_come_first_served() -> None:
    """Within a tenant and priority the order is that of arrival, whoever joins late."""
    tickets = [Ticket(arrived=float(at)) for at in (3, 1, 2, 1)]
    expected = [tickets[1], tickets[3], tickets[2], tickets[0]]
    assert drained(an_order(*tickets)) == expected


def test_tenants_take_turns() -> None:
    """A tenant with a hundred waiting and one with three alternate."""
    flood = [Ticket("flood", arrived=0.0) for _ in range(100)]
    quiet = [Ticket("quiet", arrived=1.0) for _ in range(3)]
    names = [ticket.tenant for ticket in drained(an_order(*flood, *quiet))]
    assert names[:7] == ["flood", "quiet", "flood", "quiet", "flood", "quiet", "flood"]


def test_turns_go_by_weight_and_amount() -> None:
    """Over time tenants get what is wanted in proportion to their weights."""
    heavy = [Ticket("heavy", weight=3.0, amount=10) for _ in range(90)]
    light = [Ticket("light", weight=1.0, amount=5) for _ in range(90)]
    got: Counter[str] = Counter()
    for ticket in drained(an_order(*heavy, *light))[:60]:
        got[ticket.tenant] += ticket.amount
    assert 2.5 <= got["heavy"] / got["light"] <= 3.5


def test_a_tenant_that_comes_late_saves_no_turns() -> None:
    """Having stayed away gives no claim to more than the share from now on."""
    order = an_order(*[Ticket("old", arrived=0.0) for _ in range(50)])
    for _ in range(20):
        first = order.first()
        assert first is not None
        order.remove(first, entered=True)
    for _ in range(20):
        order.add(Ticket("new", arrived=9.0))
    assert Counter(ticket.tenant for ticket in drained(order)[:20]) == {"old": 10, "new": 10}


def test_who_gives_up_has_taken_no_turn() -> None:
    """A tenant whose tickets leave without entering pays nothing for them."""
    leavers = [Ticket("a") for _ in range(10)]
    order = an_order(*leavers, *[Ticket("b") for _ in range(3)], Ticket("a"))
    for ticket in leavers:
        order.remove(ticket, entered=False)
    assert [ticket.tenant for ticket in drained(order)][:2] == ["b", "a"]


def test_a_higher_priority_goes_first_until_age_outweighs_it() -> None:
    """Ten seconds of waiting weigh as much as one level."""
    old = Ticket(priority=0, arrived=0.0)
    soon = Ticket(priority=1, arrived=9.0)
    late = Ticket(priority=1, arrived=11.0)
    assert drained(an_order(old, soon, late)) == [soon, old, late]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 2),
            st.floats(0, 100, allow_nan=False),
            st.integers(0, 9),
        ),
        max_size=40,
    ),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_nobody_is_lost_and_the_estimate_is_near(rows: list[Any], data: st.DataObject) -> None:
    """All go exactly once; how many were estimated to be ahead is right within a few."""
    tickets = [Ticket(name, level, at, amount) for name, level, at, amount in rows]
    order = an_order(*tickets)
    if not tickets:
        assert order.first() is None
        return
    mine = data.draw(st.sampled_from(tickets))
    count, amounts = order.ahead(mine)
    assert 0 <= count < len(tickets)
    assert 0 <= amounts <= sum(ticket.amount for ticket in tickets)
    went = drained(order)
    assert sorted(went, key=lambda ticket: ticket.number) == tickets
    assert len(order) == 0


def test_the_estimate_is_exact_for_one_tenant() -> None:
    """In a plain queue it is the position, and the sum before it."""
    tickets = [Ticket(arrived=float(at), amount=at) for at in range(1, 6)]
    order = an_order(*tickets)
    assert [order.ahead(ticket) for ticket in tickets] == [
        (0, 0), (1, 1), (2, 3), (3, 6), (4, 10),
    ]  # fmt: skip


class Standing(RuleBasedStateMachine):
    """The order against a plain list of who stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.order = Order(10.0)
        self.there: list[Ticket] = []
        self.now = 0.0

    @rule(tenant=st.sampled_from("abcd"), priority=st.integers(0, 3), amount=st.integers(0, 5))
    def come(self, tenant: str, priority: int, amount: int) -> None:
        self.now += 1
        ticket = Ticket(tenant, priority, self.now, amount)
        self.order.add(ticket)
        self.there.append(ticket)

    @rule(data=st.data(), entered=st.booleans())
    @precondition(lambda self: bool(self.there))
    def go(self, data: st.DataObject, entered: bool) -> None:
        ticket = data.draw(st.sampled_from(self.there))
        self.there.remove(ticket)
        assert self.order.remove(ticket, entered=entered)
        assert not self.order.remove(ticket, entered=entered)

    @invariant()
    def the_first_is_the_oldest_of_its_tenant_and_priority(self) -> None:
        first = self.order.first()
        assert len(self.order) == len(self.there)
        assert (first is None) == (not self.there)
        if first is None:
            return
        peers = [t for t in self.there if (t.tenant, t.priority) == (first.tenant, first.priority)]
        assert first is min(peers, key=lambda ticket: ticket.seniority)
        best = max(t.priority - t.arrived / 10 for t in self.there)
        levels = max(t.priority for t in self.there) - first.priority
        assert first.priority - first.arrived / 10 + levels + self.now / 10 >= best

    @invariant()
    def the_least_is_the_newest_of_the_lowest(self) -> None:
        newcomer = Ticket("a", 1, self.now + 1)
        least = self.order.least(newcomer)
        everybody = [*self.there, newcomer]
        assert least.priority == min(ticket.priority for ticket in everybody)
        same = [t for t in everybody if (t.tenant, t.priority) == (least.tenant, least.priority)]
        assert least is max(same, key=lambda ticket: ticket.seniority)
        level = Counter(t.tenant for t in everybody if t.priority == least.priority)
        assert level[least.tenant] == max(level.values())


TestStanding = Standing.TestCase
TestStanding.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
