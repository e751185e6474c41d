"""Secrets of Vault, read over real sockets from a server that speaks its API."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
import trustme
from vault_wire import VALUE, FakeVault, reply

from lamella import ConfigurationError, Registry, Secret, SecretError, registry
from lamella._ports import default_ports
from lamella._registry import using
from lamella._secrets import revealed_values
from lamella.testing import HTTPServer, Reply
from lamella.testing._faults import Faults
from lamella.testing._http_wire import Received
from lamella_vault import AppRole, Kubernetes, Token, Vault
from lamella_vault._reference import Reference, parsed

pytestmark = pytest.mark.anyio


@pytest.fixture
def fake() -> FakeVault:
    """What the server has."""
    return FakeVault()


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The system's monotonic clock."""
    clock = Clock()
    ports = attrs.evolve(default_ports(), monotonic=lambda: clock.now)
    monkeypatch.setattr("lamella._ports._default", ports)
    return clock


@pytest.fixture
async def address(fake: FakeVault, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The server's address, which the environment says, with a token."""
    async with HTTPServer(fake) as server:
        monkeypatch.setenv("VAULT_ADDR", server.url)
        monkeypatch.setenv("VAULT_TOKEN", "s.root")
        yield server.url


async def refused(source: Vault, reference: str = "kv/openai#api_key") -> SecretError:
    """The error instead of a value: it never has Vault's words, tokens, or a value in it."""
    with pytest.raises(SecretError) as caught:
        await source(reference)
    said = str(caught.value)
    assert not any(word in said for word in (VALUE, "s.root", "s.login", "the secret id"))
    return caught.value


# --- references --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kv/openai#key", Reference("kv", "openai", "key")),
        ("kv/a/b/c", Reference("kv", "a/b/c")),
        ("kv/a?version=3#key", Reference("kv", "a", "key", 3)),
        ("kv/a#key?version=3", Reference("kv", "a", "key", 3)),
        ("team%2Fkv/a%20b#odd%20%23%3F%25%20name", Reference("team/kv", "a b", "odd #?% name")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    """Mount, path, field and version, with percent signs for what would part them."""
    assert parsed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "kv", "kv/", "/a", "kv//a", "kv/../sys/raw", "kv/%2e%2e/a", "kv/a#", "kv/a#b#c",
        "kv/a?version=0", "kv/a?version=x", "kv/a?version=1?version=2", "kv/a?wrong=1",
        "kv/a%0a#b", "kv/a?version=12345678901",
    ],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    """Whatever is none is refused with the syntax, and not repeated."""
    with pytest.raises(SecretError, match="names no field of a secret"):
        parsed(text)


def test_the_scheme_is_registered() -> None:
    """Installed, the distribution answers for `vault:`."""
    assert registry().origin("secret_sources", "vault").startswith("lamella-vault")
    assert Secret("vault:kv/openai#key").reference == "vault:kv/openai#key"


# --- values ------------------------------------------------------------------------------------


async def test_a_field_is_read(address: str, fake: FakeVault) -> None:
    """By way of a `Secret`, with what the environment says."""
    own = Registry([])
    own.add(secret_sources={"vault": Vault()})
    with using(own):
        secret = Secret("vault:kv/openai#api_key")
        assert [await secret.fetch() for _ in range(3)] == [VALUE] * 3
        assert await Secret("vault:kv/openai?version=1#api_key").fetch() == "sk-version-one"
        assert await Secret("vault:kv/one/deep").fetch() == "the only value"
        odd = Secret("vault:team%2Fkv/a%20b#odd%20%23%3F%25%20name")
        assert await odd.fetch() == "an odd value"
    assert len(fake.received) == 4
    assert fake.received[0].target == "/v1/kv/data/openai"


async def test_namespaces(address: str, fake: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from the environment or are given."""
    fake.namespace = "team-a/"
    assert "does not allow" in str(await refused(Vault()))
    assert await Vault(namespace="team-a/")("kv/openai#api_key") == VALUE
    monkeypatch.setenv("VAULT_NAMESPACE", "team-a/")
    assert await Vault()("kv/openai#api_key") == VALUE


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("kv/none#key", "Vault has no secret 'none' in 'kv'. Look at it with `vault kv get`"),
        ("kv/openai?version=9#key", "Vault has no version 9 of secret 'openai' in 'kv'"),
        ("kv/gone#key", "secret 'gone' in 'kv' was deleted or destroyed"),
        ("kv/openai#none", "The field 'none' of the secret 'openai' in 'kv' is not there"),
        ("kv/openai#port", "The field 'port' of the secret 'openai' in 'kv' is no text"),
        ("kv/openai", "has 2 fields, and the reference names none. Write vault:kv/openai#FIELD"),
    ],
)
async def test_what_is_not_there(address: str, reference: str, said: str) -> None:
    """The error says what is missing, where, and how to look."""
    error = await refused(Vault(), reference)
    assert said in str(error)
    assert error.code == ("gone" if "has no" in said or "deleted" in said else None)


@pytest.mark.parametrize(
    ("status", "errors", "said", "passes"),
    [
        (503, ["Vault is sealed"], "Vault is sealed (the secret 'openai' in 'kv'). Unseal", True),
        (503, ["error"], "Vault is not available", True),
        (473, [], "is a performance standby (status 473", True),
        (472, [], "is a standby for disaster recovery", True),
        (429, [VALUE], "limits requests, or is a standby", True),
        (412, [], "has not caught up yet", True),
        (501, [], "has not been initialised", True),
        (500, [VALUE], "failed (status 500", True),
        (502, [], "cannot be reached behind its proxy", True),
        (507, [], "failed (status 507", True),
        (403, [VALUE], "does not allow the secret 'openai' in 'kv'", False),
        (400, [VALUE], "refused the secret 'openai' in 'kv' (status 400)", False),
        (307, [], "redirects, which is not followed", False),
        (200, [], "is no Vault, or not one that is understood", False),
    ],
)
async def test_states(
    address: str, fake: FakeVault, status: int, errors: list[str], said: str, passes: bool
) -> None:
    """Whatever state Vault is in, the error says it, what to do, and whether it may pass."""
    fake.state = (status, errors)
    error = await refused(Vault())
    assert said in str(error)
    assert error.hint
    assert error.retryable is passes


# --- who asks ----------------------------------------------------------------------------------


async def test_nobody_asks(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing is sent; a Vault Agent needs none."""
    monkeypatch.delenv("VAULT_TOKEN")
    assert "There are no credentials for Vault. Set VAULT_TOKEN" in str(await refused(Vault()))
    monkeypatch.setenv("VAULT_AGENT_ADDR", address)
    assert "does not allow" in str(await refused(Vault()))


async def test_tokens(
    address: str, fake: FakeVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A token comes from a variable, the file that one names, or `vault login`; or is given."""
    fake.tokens = {"s.file"}
    assert "does not allow" in str(await refused(Vault()))
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".vault-token").write_text("s.file\n")
    assert await Vault()("kv/openai#api_key") == VALUE
    (tmp_path / "token").write_text("s.other")
    monkeypatch.setenv("VAULT_TOKEN_FILE", str(tmp_path / "token"))
    assert "does not allow" in str(await refused(Vault()))
    (tmp_path / "token").write_text("s.file")  # an agent has exchanged it
    assert await Vault()("kv/openai#api_key") == VALUE
    given = Token(f"file:{tmp_path / 'token'}")
    assert await Vault(address=f"{address}/", auth=given)("kv/openai#api_key") == VALUE


async def test_roles(address: str, fake: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login by AppRole is made once for all who ask at once, and its token is known to logs."""
    monkeypatch.setenv("LAMELLA_SECRET_ID", "the secret id")
    source = Vault(auth=AppRole(role_id="role", secret_id="env:LAMELLA_SECRET_ID"))
    found: list[str] = []

    async def ask() -> None:
        found.append(await source("kv/openai#api_key"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert (found, fake.logins) == ([VALUE] * 10, 1)
    assert "s.login-1" in revealed_values()
    fake.secret_id = "another"
    fake.tokens.clear()
    error = await refused(source)
    assert "Vault refused a login at auth/approle" in str(error)
    assert "s.login" not in repr(source)


async def test_roles_of_the_environment(
    address: str, fake: FakeVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables can say that a role, or a pod's service account, asks."""
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("VAULT_ROLE_ID", "role")
    monkeypatch.setenv("VAULT_SECRET_ID", "the secret id")
    assert await Vault()("kv/openai#api_key") == VALUE
    monkeypatch.delenv("VAULT_ROLE_ID")
    monkeypatch.setenv("VAULT_KUBERNETES_ROLE", "app")
    assert "/var/run/secrets/kubernetes.io" in str(await refused(Vault()))
    (tmp_path / "jwt").write_text("a.service.account\n")
    for mount in ("kubernetes", "k8s"):
        pod = Kubernetes(role="app", jwt=f"file:{tmp_path / 'jwt'}", mount=mount)
        assert await Vault(auth=pod)("kv/openai#api_key") == VALUE
    assert fake.logins == 3


async def test_a_revoked_token_is_exchanged(address: str, fake: FakeVault) -> None:
    """A refusal may mean the token of a login: another one is got, once."""
    source = Vault(auth=AppRole(role_id="role", secret_id=Secret.of_value("the secret id")))
    await source("kv/openai#api_key")
    fake.tokens.clear()
    assert await source("kv/openai#api_key") == VALUE
    assert fake.logins == 2


async def test_a_path_that_is_refused_costs_one_login_a_minute(
    address: str, fake: FakeVault, clock: Clock
) -> None:
    """Each login leaves a lease; the token stays the others', even if none comes after it."""
    source = Vault(auth=AppRole(role_id="role", secret_id=Secret.of_value("the secret id")))
    fake.forbidden = "/v1/kv/data/one/deep"
    for _ in range(5):
        assert "does not allow the secret 'one/deep'" in str(await refused(source, "kv/one/deep"))
    assert fake.logins == 2
    clock.now = 60
    fake.secret_id = "used up"
    assert "refused a login" in str(await refused(source, "kv/one/deep"))
    assert await source("kv/openai#api_key") == VALUE


async def test_a_login_that_fails_is_everybodys(address: str, fake: FakeVault) -> None:
    """Who waits for it does not try it again: roles are locked out for that."""
    source = Vault(auth=AppRole(role_id="role", secret_id=Secret.of_value("wrong")))
    errors: list[SecretError] = []

    async def ask() -> None:
        errors.append(await refused(source))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert (len({id(error) for error in errors}), len(fake.received)) == (10, 1)


async def test_a_token_is_used_to_its_end(address: str, fake: FakeVault, clock: Clock) -> None:
    """One that cannot be renewed now still holds for the last third of its time."""
    fake.lease = 90
    source = Vault(auth=AppRole(role_id="role", secret_id=Secret.of_value("the secret id")))
    await source("kv/openai#api_key")
    clock.now, fake.renewable, fake.secret_id = 61, False, "another"
    assert await source("kv/openai#api_key") == VALUE
    clock.now = 91
    assert "refused a login" in str(await refused(source))


@pytest.mark.parametrize("renewable", [True, False])
async def test_tokens_are_renewed(
    address: str, fake: FakeVault, renewable: bool, clock: Clock
) -> None:
    """After two thirds of its time a token is prolonged, or exchanged if it cannot be."""
    fake.lease, fake.renewable = 90, renewable
    source = Vault(auth=AppRole(role_id="role", secret_id=Secret.of_value("the secret id")))
    await source("kv/openai#api_key")
    clock.now = 59
    await source("kv/openai#api_key")
    assert (fake.logins, fake.renewals) == (1, 0)
    clock.now = 61
    await source("kv/openai#api_key")
    assert (fake.logins, fake.renewals) == ((1, 1) if renewable else (2, 0))
    clock.now = 1000
    await source("kv/openai#api_key")
    assert (fake.logins, fake.renewals) == ((2, 1) if renewable else (3, 0))


# --- the way there -----------------------------------------------------------------------------


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nothing listens is named, with what to look at."""
    monkeypatch.setenv("VAULT_TOKEN", "s.root")
    error = await refused(Vault(address="http://127.0.0.1:1"))
    assert "Vault at http://127.0.0.1:1 could not be asked (ConnectError). Look at" in str(error)
    assert error.retryable


async def test_a_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up on after `timeout`."""
    monkeypatch.setenv("VAULT_TOKEN", "s.root")

    async def silent(received: Received) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with HTTPServer(silent) as server:
        error = await refused(Vault(address=server.url, timeout=0.05))
    assert "did not answer in 0.05 s" in str(error)
    assert error.retryable


@pytest.mark.parametrize("body", [b"<html>no such page", b"", b'{"error": "no route"}'])
async def test_a_proxys_404_is_no_word_of_vaults(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """Only Vault itself says that a secret is gone, upon which its earlier value is dropped."""
    monkeypatch.setenv("VAULT_TOKEN", "s.root")

    async def proxy(received: Received) -> Reply:
        return Reply(404, [], body)

    async with HTTPServer(proxy) as server:
        error = await refused(Vault(address=server.url))
    assert ("is no Vault" in str(error), error.code) == (True, None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": 5}', b"\xff", b"{" * 100_000])
async def test_something_else_answers(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """What is no answer of Vault's is an error, whatever it is."""
    monkeypatch.setenv("VAULT_TOKEN", "s.root")

    async def other(received: Received) -> Reply:
        return Reply(200, [], body)

    async with HTTPServer(other) as server:
        assert "is no Vault" in str(await refused(Vault(address=server.url)))
        login = AppRole(role_id="role")
        assert "is no Vault" in str(await refused(Vault(address=server.url, auth=login)))


async def test_an_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is read up to four mebibytes; one that breaks off is none."""
    monkeypatch.setenv("VAULT_TOKEN", "s.root")

    async def handler(received: Received) -> Reply:
        if received.index:
            return Reply(200, [], b"x" * 5_000_000)
        return Reply(200, [], b"x" * 1000, faults=Faults(limit_data=10))

    async with HTTPServer(handler) as server:
        source = Vault(address=server.url)
        assert "could not be asked" in str(await refused(source))
        assert "(ResponseTooLargeError)" in str(await refused(source))


async def test_certificates(
    fake: FakeVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`VAULT_CACERT` says whom to trust; without it a private authority is refused."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("VAULT_TOKEN", "s.root")
    async with HTTPServer(fake, tls=context) as server:
        monkeypatch.setenv("VAULT_ADDR", server.url)
        error = await refused(Vault())
        assert "(CertificateError). Set VAULT_CACERT" in str(error)
        assert not error.retryable
        monkeypatch.setenv("VAULT_CACERT", str(file))
        source = Vault()
        assert await source("kv/openai#api_key") == VALUE
        monkeypatch.setenv("VAULT_CACERT", str(tmp_path / "none.pem"))
        with pytest.raises(ConfigurationError, match=r"none\.pem' of HTTPOptions cannot be used"):
            await source("kv/openai#api_key")
        monkeypatch.delenv("VAULT_CACERT")
        monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
        assert await source("kv/openai#api_key") == VALUE


async def test_client_certificates(
    fake: FakeVault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate of one's own and its key are sent where they are asked for."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    own = authority.issue_cert("a-program")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings: dict[str, Any] = {
        "VAULT_TOKEN": "s.root",
        "VAULT_CACERT": tmp_path / "ca.pem",
        "VAULT_CLIENT_CERT": tmp_path / "cert.pem",
        "VAULT_CLIENT_KEY": tmp_path / "key.pem",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    async with HTTPServer(fake, tls=context) as server:
        source = Vault(address=server.url)
        assert await source("kv/openai#api_key") == VALUE
        monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")  # of the server's, not of ours
        monkeypatch.delenv("VAULT_CACERT")
        assert await source("kv/openai#api_key") == VALUE
        monkeypatch.setenv("VAULT_CLIENT_KEY", str(tmp_path / "none.pem"))
        error = await refused(source)
        monkeypatch.delenv("VAULT_CLIENT_KEY")
        assert "is half of one. Set both VAULT_CLIENT_CERT" in str(await refused(source))
    assert "The client certificate for Vault cannot be used (FileNotFoundError)" in str(error)


def test_options() -> None:
    """What cannot be meant is refused when it is said."""
    wrong: Any = 0
    with pytest.raises(ConfigurationError, match=r"timeout=0.*seconds above 0"):
        Vault(timeout=wrong)
    with pytest.raises(ConfigurationError, match=r"Vault\(address=\.\.\.\) must begin with"):
        Vault(address="ftp://vault")
    with pytest.raises(SecretError, match="given by reference"):
        Token("s.root")
    assert reply(200, {}).status == 200
