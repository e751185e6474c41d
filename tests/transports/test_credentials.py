"""Keys: given, referred to, or found in the environment."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import anyio
import pytest

from lamella import ChatRequest, Pipeline, Registry, Secret, SecretError
from lamella._registry import using
from lamella.testing import MockServer, Scripted
from lamella.transports import OpenAI
from lamella.transports._credentials import Credential
from lamella.transports._http import HTTPRequest
from lamella.transports._http_transport import key_header
from lamella_middlewares import Fallback

ASK = ChatRequest.of("hello", model="m")


@pytest.mark.parametrize("scheme", ["vault", "aws-secrets", "azure-keyvault", "some_other"])
def test_a_reference_that_nobody_reads_is_never_taken_for_a_key(scheme: str) -> None:
    """`vault:...` without the distribution that reads it is refused, and not repeated."""
    with using(Registry([])), pytest.raises(SecretError, match=f"'{scheme}'") as refused:
        OpenAI(f"{scheme}:secret/team#key")

    assert "team" not in str(refused.value)


@pytest.mark.parametrize("key", ["sk-abc", "0f3b-99:secret", "Bearer:x"])
def test_a_key_with_a_colon_is_a_key(key: str) -> None:
    """Some providers' keys have one; only a word of small letters before it is a scheme."""
    assert OpenAI(key, base_url="http://127.0.0.1:9/v1").name == "127.0.0.1:9"
    assert (
        OpenAI(Secret.of_value("vault:x"), base_url="http://127.0.0.1:9/v1").name == "127.0.0.1:9"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_that_fails_is_an_error_of_ours(asynchronous: bool) -> None:
    """It names the option and what kind of error it was; what that said may be a secret."""

    def plain() -> str:
        raise KeyError("hunter2")

    async def awaited() -> str:
        return plain()

    async with MockServer() as server:
        transport = OpenAI(awaited if asynchronous else plain, base_url=server.url)
        with pytest.raises(SecretError, match="api_key failed with KeyError") as failed:
            await Pipeline([], transport).run(ASK)
        assert failed.value.__cause__ is None
        behind: BaseException | None = failed.value
        while behind is not None:
            assert isinstance(behind, SecretError)
            assert "hunter2" not in repr(behind)
            behind = behind.__context__
        assert not server.requests


@pytest.mark.anyio
async def test_a_source_of_keys_that_is_down_does_not_take_others_along() -> None:
    """Another provider's key may be had: a fallback goes there."""

    def down() -> str:
        raise ConnectionRefusedError

    own = OpenAI(down, base_url="http://127.0.0.1:9/v1")
    response = await Pipeline([Fallback([Scripted(["fine"])])], own).run(ASK)
    assert response.text == "fine"


def test_each_thread_sends_the_key_that_it_was_given() -> None:
    """Two loops that are given different keys at the same time do not send each other's."""
    mine: ContextVar[str] = ContextVar("mine")
    both = threading.Barrier(2, timeout=10)

    def changed(_: str) -> None:
        both.wait()

    authorize = key_header(Credential(mine.get, "api_key"), changed=changed)
    sent: dict[str, bytes] = {}

    async def one(key: str) -> None:
        mine.set(key)
        draft = HTTPRequest(method="GET", url="http://127.0.0.1:9/", headers=())
        sent[key] = dict((await authorize(draft)).headers)[b"Authorization"]

    threads = [threading.Thread(target=anyio.run, args=(one, key)) for key in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent == {"a": b"Bearer a", "b": b"Bearer b"}
