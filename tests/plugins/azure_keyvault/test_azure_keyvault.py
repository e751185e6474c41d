"""Secrets of Azure Key Vault, read with Azure's own libraries from a server that speaks its API."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme
from azure.core.exceptions import ClientAuthenticationError

from lamella import ConfigurationError, Registry, Secret, SecretError, registry
from lamella._registry import using
from lamella.testing import HTTPServer, Reply
from lamella.testing._http_wire import Received
from lamella_azure_keyvault import AzureKeyVault
from lamella_azure_keyvault._reference import Reference, parsed

pytestmark = pytest.mark.anyio

VALUE = "sk-planted-0123456789abcdef"
TOKEN = "a token of a login"
JSON = ("Content-Type", "application/json")


class FakeCredential:
    """Gives a token, or fails as those of azure.identity do."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.asked: list[Any] = []
        self.threads: set[int] = set()

    def get_token(self, *scopes: str, **more: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.asked.append((scopes, more.get("tenant_id")))
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            raise self.failure
        return AccessToken(TOKEN, int(time.time()) + 3600)


class FakeVault:
    """Secrets behind the vault's challenge.

    Attributes:
        state: An answer to everything that has a token; None reads.
        resource: Whose tokens the challenge asks for.
    """

    def __init__(self) -> None:
        self.state: tuple[int, object] | None = None
        self.resource = "https://vault.azure.net"
        self.received: list[Received] = []

    async def __call__(self, received: Received) -> Reply:
        self.received.append(received)
        if received.headers.get("authorization") != f"Bearer {TOKEN}":
            asks = f'Bearer authorization="https://login.example/t1", resource="{self.resource}"'
            return Reply(401, [JSON, ("WWW-Authenticate", asks)], b'{"error": {"code": "U"}}')
        if self.state is not None:
            status, body = self.state
            return Reply(status, [JSON], json.dumps(body).encode())
        values = {
            "/secrets/openai/": VALUE,
            "/secrets/openai/0123456789abcdef": "sk-older-value",
            "/secrets/empty/": "",
        }
        value = values.get(received.path)
        if value is None:
            return Reply(404, [JSON], error("SecretNotFound"))
        found = {"value": value, "id": f"https://v{received.path}1", "attributes": {}}
        return Reply(200, [JSON], json.dumps(found).encode())


def error(code: str, inner: str | None = None) -> bytes:
    """An error as the vault gives them, with words that nobody is to repeat."""
    found: dict[str, Any] = {"code": code, "message": f"about {VALUE}"}
    if inner is not None:
        found["innererror"] = {"code": inner}
    return json.dumps({"error": found}).encode()


@pytest.fixture
def fake() -> FakeVault:
    """What the server has."""
    return FakeVault()


@pytest.fixture
async def host(fake: FakeVault, tmp_path: Path) -> AsyncIterator[str]:
    """The host of a vault with a certificate of a private authority, which is in `ca.pem`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with HTTPServer(fake, tls=context) as server:
        yield f"localhost:{server.port}"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Callable[..., AzureKeyVault]]:
    """Makes sources that trust the authority, and closes them."""
    sources: list[AzureKeyVault] = []

    def make(credential: Any = None, *, verify: bool = False, **options: Any) -> AzureKeyVault:
        more = {
            "connection_verify": str(tmp_path / "ca.pem"),
            "verify_challenge_resource": verify,
            "retry_total": 0,
        }
        given = credential or FakeCredential()
        source = AzureKeyVault(credential=given, client_options=more, **options)
        sources.append(source)
        return source

    yield make
    for source in sources:
        source.close()


async def refused(source: AzureKeyVault, reference: str) -> SecretError:
    """The error instead of a value: it never has Azure's words, tokens, or a value in it."""
    with pytest.raises(SecretError) as caught:
        await anyio.to_thread.run_sync(source, reference)
    assert not any(word in str(caught.value) for word in (VALUE, TOKEN))
    assert caught.value.__context__ is None
    return caught.value


# --- references --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my-vault/openai", Reference("my-vault.vault.azure.net", "openai")),
        ("V1/openai-key/0123ab", Reference("v1.vault.azure.net", "openai-key", "0123ab")),
        ("v.vault.azure.cn/a", Reference("v.vault.azure.cn", "a")),
        ("localhost:8443/a", Reference("localhost:8443", "a")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    """A vault's name or host, a secret, a version."""
    assert parsed(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "v", "v/", "/a", "v/a/", "v/a/b/c", "v/a_b", "https://v/a", "v@h.example/a", "v.x?/a",
     "v--x/a", "v/a/b#c", "v.example:123456/a", "-v/a"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    """Whatever is none is refused with the syntax, and not repeated."""
    with pytest.raises(SecretError, match="names no secret. Write azure-keyvault:VAULT/SECRET"):  # noqa: RUF043
        parsed(text)


def test_the_scheme_is_registered() -> None:
    """Installed, the distribution answers for `azure-keyvault:`."""
    origin = registry().origin("secret_sources", "azure-keyvault")
    assert origin.startswith("lamella-azure-keyvault")
    assert Secret("azure-keyvault:v/a").reference == "azure-keyvault:v/a"


# --- values ------------------------------------------------------------------------------------


async def test_values(host: str, fake: FakeVault, made: Callable[..., AzureKeyVault]) -> None:
    """A secret is read in a worker thread, with the token that the vault's challenge asks for."""
    credential = FakeCredential()
    own = Registry([])
    own.add(secret_sources={"azure-keyvault": made(credential)})
    with using(own):
        assert await Secret(f"azure-keyvault:{host}/openai").fetch() == VALUE
        older = Secret(f"azure-keyvault:{host}/openai/0123456789abcdef")
        assert await older.fetch() == "sk-older-value"
    assert credential.asked == [(("https://vault.azure.net/.default",), "t1")]
    assert threading.get_ident() not in credential.threads
    first = fake.received[0]
    assert "authorization" not in first.headers
    assert len(fake.received) == 3


async def test_a_challenge_of_somebody_else(
    host: str, fake: FakeVault, made: Callable[..., AzureKeyVault]
) -> None:
    """What asks for a token that is not its own gets none."""
    credential = FakeCredential()
    error = await refused(made(credential, verify=True), f"{host}/openai")
    assert "does not say that it is that key vault" in str(error)
    assert not credential.asked


@pytest.mark.parametrize(
    ("status", "code", "inner", "said", "facts"),
    [
        (404, "SecretNotFound", None, "There is no secret 'openai' in localhost", ("gone", False)),
        (403, "Forbidden", "SecretDisabled", "is disabled, has expired", ("gone", False)),
        (403, "Forbidden", "ForbiddenByRbac", "Give it the role 'Key Va", ("forbidden", False)),
        (403, "Forbidden", "ForbiddenByFirewall", "no requests from this network", (None, False)),
        (403, "Forbidden", None, "does not allow this program", ("forbidden", False)),
        (401, "Unauthorized", None, "does not accept this program's token", ("forbidden", False)),
        (429, "Throttled", None, "limits requests", (None, True)),
        (500, "InternalServerError", None, "failed (status 500)", (None, True)),
        (503, "X", None, "failed (status 503)", (None, True)),
        (400, "BadParameter", None, "refused the request (status 400)", (None, False)),
    ],
)
async def test_errors(  # noqa: PLR0917 - fixtures are parameters
    host: str,
    fake: FakeVault,
    made: Callable[..., AzureKeyVault],
    status: int,
    code: str,
    inner: str | None,
    said: str,
    facts: tuple[str | None, bool],
) -> None:
    """Each of the vault's errors says what to do, and whether it may pass."""
    fake.state = (status, json.loads(error(code, inner)))
    found = await refused(made(), f"{host}/openai")
    assert said in str(found)
    assert (found.code, found.retryable) == facts
    assert found.hint


async def test_a_proxys_404_is_no_word_of_the_vaults(
    host: str, fake: FakeVault, made: Callable[..., AzureKeyVault]
) -> None:
    """Only the vault itself says that a secret is gone, upon which its earlier value is dropped."""
    fake.state = (404, "no such page")
    found = await refused(made(), f"{host}/openai")
    assert ("is no key vault" in str(found), found.code) == (True, None)


async def test_a_fork_connects_for_itself(
    host: str, made: Callable[..., AzureKeyVault], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that spoke over its parent's connections would get the other's answers."""
    source = made()
    await anyio.to_thread.run_sync(source, f"{host}/openai")
    before = dict(source._clients)
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        await anyio.to_thread.run_sync(source, f"{host}/openai")
        theirs = [one for key, one in source._clients.items() if key not in before]
        source.close()
    assert len(theirs) == 1
    assert theirs[0] not in before.values()


@pytest.mark.parametrize("body", [5, [], {}, {"value": None}])
async def test_odd_answers(
    host: str, fake: FakeVault, made: Callable[..., AzureKeyVault], body: object
) -> None:
    """What is no answer of a vault's is an error, whatever it is."""
    fake.state = (200, body)
    assert "secret 'openai'" in str(await refused(made(), f"{host}/openai"))


async def test_an_empty_secret(host: str, made: Callable[..., AzureKeyVault]) -> None:
    """An empty value is none."""
    assert "is empty. Write a value to it" in str(await refused(made(), f"{host}/empty"))


async def test_nobody_asks(host: str, made: Callable[..., AzureKeyVault]) -> None:
    """Where no login gives a token, the error says how to get one."""
    credential = FakeCredential(ClientAuthenticationError(f"no, {VALUE}"))
    found = await refused(made(credential), f"{host}/openai")
    assert f"Azure gives this program no token for {host}. Set AZURE_CLIENT_ID" in str(found)
    credential.failure = RuntimeError(VALUE)
    assert "Azure's library raised RuntimeError" in str(
        await refused(made(credential), f"{host}/openai")
    )


async def test_the_default_credential(
    host: str, made: Callable[..., AzureKeyVault], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without one that is given, Azure's default is used; with no login at all it says so."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    monkeypatch.setenv("HOME", str(tmp_path))
    options = made().client_options
    source = AzureKeyVault(client_options=options)
    found = await refused(source, f"{host}/openai")
    source.close()
    assert "Azure gives this program no token" in str(found)


async def test_the_way_there(tmp_path: Path, made: Callable[..., AzureKeyVault]) -> None:
    """Where nothing listens, or nothing answers, the error says so."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    found = await refused(made(), "localhost:1/openai")
    assert "The key vault localhost:1 cannot be reached" in str(found)
    assert found.retryable


async def test_a_silent_vault(tmp_path: Path, made: Callable[..., AzureKeyVault]) -> None:
    """It is given up on after `timeout`."""

    async def silent(received: Received) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with HTTPServer(silent, tls=context) as server:
        found = await refused(made(timeout=0.1), f"localhost:{server.port}/openai")
    assert "did not answer in time" in str(found)


async def test_a_certificate_of_a_stranger(host: str, tmp_path: Path) -> None:
    """A vault whose certificate is not trusted gets no token."""
    credential = FakeCredential()
    source = AzureKeyVault(credential=credential, client_options={"retry_total": 0})
    found = await refused(source, f"{host}/openai")
    source.close()
    assert "cannot be reached" in str(found)
    assert not credential.asked


def test_options() -> None:
    """What cannot be meant is refused when it is said."""
    with pytest.raises(ConfigurationError, match=r"timeout=0.*seconds above 0"):
        AzureKeyVault(timeout=0)
    with pytest.raises(SecretError, match=r"AzureKeyVault\(credential=\.\.\.\) is a str"):
        AzureKeyVault(credential=VALUE)
    assert VALUE not in repr(AzureKeyVault(client_options={"x": VALUE}))
