"""Passwords of a keyring that is in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest

from lamella import Registry, Secret, SecretError, registry
from lamella._registry import using
from lamella_keyring import keyring_secret

pytestmark = pytest.mark.anyio

VALUE = "sk-planted-0123456789abcdef"
Backend: Any = keyring.backend.KeyringBackend


class InMemory(Backend):  # type: ignore[misc]
    """A keyring with one password, which fails as it is told."""

    priority = 1
    failure: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.passwords = {("acme/api", "ann"): VALUE, ("acme", "empty"): ""}
        self.threads: list[int] = []

    def get_password(self, service: str, username: str) -> str | None:
        self.threads.append(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.passwords[service, username]


@pytest.fixture
def backend() -> Iterator[InMemory]:
    """The keyring of this program."""
    before = keyring.get_keyring()
    made = InMemory()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def refused(reference: str) -> str:
    """What is said instead of a password: never what a keyring said."""
    with pytest.raises(SecretError) as caught:
        keyring_secret(reference)
    assert VALUE not in str(caught.value)
    assert caught.value.__context__ is None
    return str(caught.value)


async def test_values(backend: InMemory) -> None:
    """A password is read in a worker thread; plain code reads it in place."""
    own = Registry([])
    own.add(secret_sources={"keyring": keyring_secret})
    with using(own):
        secret = Secret("keyring:acme%2Fapi/ann")
        secret.invalidate()
        assert await secret.fetch() == VALUE
        secret.invalidate()
        assert secret.reveal() == VALUE
    here = threading.get_ident()
    assert [thread == here for thread in backend.threads] == [False, True]


def test_the_scheme_is_registered() -> None:
    """Installed, the distribution answers for `keyring:`."""
    assert registry().origin("secret_sources", "keyring").startswith("lamella-keyring")


@pytest.mark.parametrize("text", ["", "acme", "acme/", "/ann"])
def test_what_is_no_reference(text: str) -> None:
    """Whatever is none is refused with the syntax."""
    assert "names no password. Write keyring:SERVICE/USER" in refused(text)


def test_what_is_not_there(backend: InMemory) -> None:
    """An unknown user, or an empty password, is none."""
    for user in ("bob", "empty"):
        said = refused(f"acme/{user}")
        expected = f"The keyring has no password of '{user}' for 'acme'. Store it: `keyring set"
        assert expected in said


def test_a_machine_without_a_keyring() -> None:
    """On a server there is none, and the error says what to use instead."""
    before = keyring.get_keyring()
    none: Any = keyring.backends.fail
    keyring.set_keyring(none.Keyring())
    try:
        said = refused("acme/ann")
    finally:
        keyring.set_keyring(before)
    assert "This system has no keyring, so no password of 'ann' for 'acme'. On a machine" in said


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (keyring.errors.KeyringLocked(VALUE), "The keyring is locked"),
        (keyring.errors.InitError(VALUE), "gave no password of 'ann' for 'acme' (InitError)"),
        (keyring.errors.KeyringError(VALUE), "gave no password of 'ann' for 'acme' (KeyringError)"),
        (RuntimeError(VALUE), "failed with RuntimeError when asked for the password of 'ann'"),
    ],
)
def test_failures(backend: InMemory, failure: Exception, said: str) -> None:
    """Whatever a keyring raises is told by its kind."""
    backend.failure = failure
    assert said in refused("acme/ann")
