"""E-mail addresses: what is one, how far it goes, and what only looks like one."""

from __future__ import annotations

import pytest
from detecting import ENGINES, engine, values
from hypothesis import given
from hypothesis import strategies as st

from lamella_middlewares.pii._detect._email import EMAIL

FOUND = {
    "write to a@b.co.": ["a@b.co"],
    "mailto:John.Doe+tag@sub.Example.co.uk?subject=x": ["John.Doe+tag@sub.Example.co.uk"],
    "'foo@bar.com'": ["foo@bar.com"],
    "<foo@bar.com>, foo2@bar.com;foo3@bar.com": ["foo@bar.com", "foo2@bar.com", "foo3@bar.com"],
    "https://x.org/?email=foo%40bar.com&x": ["foo%40bar.com"],
    "user=bob@bar.com": ["bob@bar.com"],
    "foo@bar.com_": ["foo@bar.com"],
    "foo@bar.com-": ["foo@bar.com"],
    "O'Brien@x.ie": ["O'Brien@x.ie"],
    "bounces+user=example.com@list.org": ["bounces+user=example.com@list.org"],
    "u@[10.0.0.1] and u@[IPv6:2001:db8::1]": ["u@[10.0.0.1]", "u@[IPv6:2001:db8::1]"],
    '"john doe"@example.com': ['"john doe"@example.com'],
    "müller@exämple.de": ["müller@exämple.de"],
    "иван@почта.рф": ["иван@почта.рф"],
    "user@xn--bcher-kva.example": ["user@xn--bcher-kva.example"],
    "请联系foo@bar.com谢谢": ["foo@bar.com"],
    "用户@例子.广告": ["用户@例子.广告"],
    "john.doe [at] foo (dot) com": ["john.doe [at] foo (dot) com"],
    "John.Doe(AT)foo.com": ["John.Doe(AT)foo.com"],
    "x@a.museum": ["x@a.museum"],
    r"E-mail:\nbob@bar.com\nand so on": ["bob@bar.com"],
}
NOT_FOUND = (
    "a@b",
    "root@localhost",
    "icon@2x.png",
    "lodash@4.17.21",
    "react@latest",
    "git@github.com:lamella/lamella.git",
    "@decorator and @user",
    "foo@bar..com",
    "foo@bar.c",
    "look (at) this. And more",
    "a@a@a@a@a",
    "",
)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", FOUND)
def test_addresses_are_found_whole(name: str, text: str) -> None:
    """An address is found from its first character to its last, without what is around it."""
    with engine(name):
        assert values(EMAIL, text) == FOUND[text]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_is_no_address_is_left_alone(name: str, text: str) -> None:
    """Packages, pictures, accounts of everybody and hosts without a dot are no addresses."""
    with engine(name):
        assert values(EMAIL, text) == []


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(
    st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,20}[A-Za-z0-9_])?", fullmatch=True),
    st.lists(LABEL, min_size=1, max_size=4),
    st.sampled_from(["com", "org", "de", "museum", "co.uk", "travel"]),
    st.sampled_from(
        [("", ""), ("<", ">"), ("(", ")."), ("mail: ", ", "), ("\n", "\n"), ('"', '"')]
    ),
)
def test_every_usual_address_is_found(
    local: str, labels: list[str], top: str, around: tuple[str, str]
) -> None:
    """Whatever letters, digits and signs it is made of, in whatever brackets it stands."""
    address = f"{local}@{'.'.join(labels)}.{top}"
    if local in {"git", "hg", "svn"}:
        return
    assert values(EMAIL, around[0] + address + around[1]) == [address]


def test_a_local_part_that_is_too_long_is_not_let_through() -> None:
    """Of more than the 64 characters that RFC 5321 allows, the last are found with the host."""
    text = "x" * 200 + "@example.org"
    assert values(EMAIL, text) == ["x" * 64 + "@example.org"]
