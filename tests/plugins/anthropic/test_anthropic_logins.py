"""Tokens of profiles and workload identities."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
from anthropic_wire import asked, complete

from lamella import AuthenticationError, ConfigurationError, LamellaError, Pipeline, SecretError
from lamella.testing._http_framing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_anthropic import Anthropic, _bearer_tokens
from lamella_anthropic._bearer_tokens import AccessToken, BearerTokens
from lamella_anthropic._logins import find_login

pytestmark = pytest.mark.anyio

FOREVER = 4_000_000_000


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of whoever runs these tests, and a home of their own."""
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def written(folder: Path, name: str, config: Any, credentials: Any = None) -> None:
    """Write a profile's files."""
    for part, data, mode in (("configs", config, 0o644), ("credentials", credentials, 0o600)):
        if data is None:
            continue
        path = folder / part / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        path.chmod(mode)


LOGIN = {"authentication": {"type": "user_oauth"}, "workspace_id": "wrkspc_1"}
TOKEN = {"access_token": "tok-1", "expires_at": FOREVER}


# --- renewal ---------------------------------------------------------------------------------


class World:
    """A clock, and tokens that hold ten minutes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fetched = 0
        self.broken = False
        self.hangs = False
        self.tokens = BearerTokens(self.fetch, wall=lambda: self.now)

    async def fetch(self) -> AccessToken:
        if self.hangs:
            self.fetched += 1
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        self.fetched += 1
        if self.broken:
            msg = "no"
            raise AuthenticationError(msg)
        return AccessToken(f"t{self.fetched}", self.now + 600)


async def test_one_token_for_all_who_wait() -> None:
    """However many ask at once."""
    world = World()
    found: list[str] = []

    async def ask() -> None:
        found.append(await world.tokens.token())

    async with anyio.create_task_group() as group:
        for _ in range(9):
            group.start_soon(ask)
    assert (found, world.fetched) == (["t1"] * 9, 1)


async def test_a_token_is_renewed_before_its_end() -> None:
    """By one; a renewal that fails is no error while the token holds."""
    world = World()
    assert await world.tokens.token() == "t1"
    world.now = 470
    assert await world.tokens.token() == "t1"
    world.now, world.broken = 490, True
    assert await world.tokens.token() == "t1"
    assert world.fetched == 2
    assert await world.tokens.token() == "t1"
    assert world.fetched == 2, "it waits a little before it tries again"
    world.now = 580
    with pytest.raises(AuthenticationError):
        await world.tokens.token()
    world.broken = False
    assert await world.tokens.token() == "t4"


async def test_a_renewal_that_hangs_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token that still holds is used, and the next try waits a little."""
    world = World()
    assert await world.tokens.token() == "t1"
    monkeypatch.setattr(_bearer_tokens, "PATIENCE_SECONDS", 0.0)
    world.now, world.hangs = 490, True
    with anyio.fail_after(5):
        assert await world.tokens.token() == "t1"
        assert await world.tokens.token() == "t1"
    assert world.fetched == 2
    monkeypatch.undo()
    world.now, world.hangs = 500, False
    assert await world.tokens.token() == "t3"


async def test_a_token_that_was_not_taken_is_forgotten() -> None:
    """The next one is new."""
    world = World()
    assert await world.tokens.token() == "t1"
    world.tokens.forget()
    assert await world.tokens.token() == "t2"


async def test_whoever_is_cancelled_leaves_the_renewal_to_others() -> None:
    """Nobody waits for one who has gone."""
    world = World()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await world.tokens.token()
    with anyio.fail_after(5):
        assert await world.tokens.token() == "t1"


# --- what is found ---------------------------------------------------------------------------


def test_nothing_is_found_where_there_is_nothing() -> None:
    """No variables, no files."""
    assert find_login({}) is None


def test_the_order(tmp_path: Path) -> None:
    """A chosen profile, a workload identity, the active profile."""
    folder = {"ANTHROPIC_CONFIG_DIR": str(tmp_path)}
    written(tmp_path, "default", LOGIN, TOKEN)
    written(tmp_path, "work", {**LOGIN, "base_url": "https://a.example"}, TOKEN)
    active = find_login(folder)
    assert active is not None
    assert active.profile is not None
    assert active.profile.name == "default"
    (tmp_path / "active_config").write_text("work\n")
    federated = {
        **folder,
        "ANTHROPIC_FEDERATION_RULE_ID": "fdrl_1",
        "ANTHROPIC_ORGANIZATION_ID": "org",
        "ANTHROPIC_IDENTITY_TOKEN": "jwt",
    }
    for environ, base_url in (
        (folder, "https://a.example"),
        (federated, None),
        ({**federated, "ANTHROPIC_PROFILE": "work"}, "https://a.example"),
    ):
        login = find_login(environ)
        assert login is not None
        assert login.base_url == base_url
        assert (login.federation is not None) == (base_url is None)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "cannot be read"),
        ("[1]", "no JSON object"),
        ("{", "no JSON object"),
        ({"authentication": {"type": "magic"}}, "not known"),
        ({"authentication": {"type": "oidc_federation"}}, "lacks"),
    ],
)
def test_a_chosen_profile_that_cannot_be_used_is_an_error(
    tmp_path: Path, config: Any, why: str
) -> None:
    """One that nobody has chosen is passed over."""
    written(tmp_path / ".config" / "anthropic", "default", config)
    if config is not None:
        assert find_login({}) is None
    written(tmp_path, "p", config)
    environ = {"ANTHROPIC_CONFIG_DIR": str(tmp_path), "ANTHROPIC_PROFILE": "p"}
    with pytest.raises(SecretError, match=why):
        find_login(environ)


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "a\\b", " a", "a\x00"])
def test_a_profiles_name_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    """It comes from outside."""
    with pytest.raises(SecretError):
        find_login({"ANTHROPIC_CONFIG_DIR": str(tmp_path), "ANTHROPIC_PROFILE": name})


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({}, "holds no access token"),
        ({"access_token": "t", "expires_at": "soon"}, "when its token ends"),
        ({"access_token": "t", "expires_at": 5}, "has ended"),
    ],
)
def test_stored_tokens_that_do_not_hold(tmp_path: Path, held: Any, why: str) -> None:
    """Say so, without the token."""
    written(tmp_path, "p", LOGIN, held)
    login = find_login({"ANTHROPIC_CONFIG_DIR": str(tmp_path), "ANTHROPIC_PROFILE": "p"})
    assert login is not None
    assert login.profile is not None
    with pytest.raises(SecretError, match=why):
        login.profile.stored_token(10)


def test_files_that_are_open_to_others_are_not_used(tmp_path: Path) -> None:
    """Nobody else may have written the profile, nor be able to read the token."""
    written(tmp_path, "p", LOGIN, TOKEN)
    environ = {"ANTHROPIC_CONFIG_DIR": str(tmp_path), "ANTHROPIC_PROFILE": "p"}
    login = find_login(environ)
    assert login is not None
    assert login.profile is not None
    assert login.profile.stored_token(10) == AccessToken("tok-1", FOREVER)
    path = tmp_path / "credentials" / "p.json"
    path.chmod(path.stat().st_mode | stat.S_IRGRP)
    with pytest.raises(SecretError, match="open to others"):
        login.profile.stored_token(10)
    config = tmp_path / "configs" / "p.json"
    config.chmod(0o666)
    with pytest.raises(SecretError, match="open to others"):
        find_login(environ)


# --- over sockets ----------------------------------------------------------------------------


async def test_a_profile_over_the_wire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its token, its workspace, its address, and the beta that lets tokens in."""
    async with HTTPServer(_answering()) as server:
        written(tmp_path, "p", {**LOGIN, "base_url": server.url}, TOKEN)
        monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
        monkeypatch.setenv("ANTHROPIC_PROFILE", "p")
        async with Pipeline([], Anthropic()) as pipeline:
            await pipeline.run(asked(extra={"betas": ["b-1"]}))
        (seen,) = server.received
        assert seen.headers["authorization"] == "Bearer tok-1"
        assert seen.headers["anthropic-workspace-id"] == "wrkspc_1"
        assert seen.headers["anthropic-beta"] == "b-1,oauth-2025-04-20"


async def test_a_workload_identity_over_the_wire(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The identity is exchanged once; after a refusal, again, with the file as it then is."""
    identity = tmp_path / "identity"
    identity.write_text("jwt-1\n")
    for name, value in {
        "IDENTITY_TOKEN_FILE": str(identity),
        "FEDERATION_RULE_ID": "fdrl_1",
        "ORGANIZATION_ID": "org",
        "WORKSPACE_ID": "wrkspc_1",
    }.items():
        monkeypatch.setenv(f"ANTHROPIC_{name}", value)
    async with HTTPServer(_answering(refused="Bearer a1")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with Pipeline([], Anthropic()) as pipeline:
            with pytest.raises(AuthenticationError):
                await pipeline.run(asked())
            identity.write_text("jwt-2\n")
            for _ in range(2):
                await pipeline.run(asked())
        targets = [seen.target for seen in server.received]
        oauth, messages = "/v1/oauth/token", "/v1/messages"
        assert targets == [oauth, messages, oauth, messages, messages]
        first, second = (seen for seen in server.received if seen.target == oauth)
        assert first.headers["anthropic-beta"] == "oidc-federation-2026-04-01"
        assert json.loads(first.body) == {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": "jwt-1",
            "federation_rule_id": "fdrl_1",
            "organization_id": "org",
            "workspace_id": "wrkspc_1",
        }
        assert json.loads(second.body)["assertion"] == "jwt-2"
        last = server.received[-1]
        assert last.headers["authorization"] == "Bearer a2"
        assert "anthropic-workspace-id" not in last.headers


async def test_first_requests_at_once_share_one_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come before there is a token."""
    for name in ("IDENTITY_TOKEN", "FEDERATION_RULE_ID", "ORGANIZATION_ID"):
        monkeypatch.setenv(f"ANTHROPIC_{name}", "x")
    async with HTTPServer(_answering()) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with Pipeline([], Anthropic()) as pipeline, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(pipeline.run, asked())
        targets = [seen.target for seen in server.received]
        assert sorted(targets) == ["/v1/messages"] * 5 + ["/v1/oauth/token"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"error": "invalid_grant", "assertion": "jwt-1"}', "AuthenticationError"),
        (503, b"", "OverloadedError"),
        (200, b"<html>", "ProtocolError"),
        (200, b'{"access_token": "x"}', "ProtocolError"),
        (200, b'{"access_token": "x", "expires_in": 9, "token_type": "mac"}', "ProtocolError"),
    ],
)
async def test_exchanges_that_fail(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, kind: str
) -> None:
    """Each is an error of its kind, and nothing of the answer is repeated."""

    async def handler(_: Received) -> Reply:
        return Reply(status, [("Content-Type", "application/json")], body=body)

    monkeypatch.setenv("ANTHROPIC_IDENTITY_TOKEN", "jwt-1")
    monkeypatch.setenv("ANTHROPIC_FEDERATION_RULE_ID", "fdrl_1")
    monkeypatch.setenv("ANTHROPIC_ORGANIZATION_ID", "org")
    async with HTTPServer(handler) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        async with Pipeline([], Anthropic()) as pipeline:
            with pytest.raises(LamellaError) as caught:
                await pipeline.run(asked())
    assert type(caught.value).__name__ == kind
    assert "jwt-1" not in str(caught.value)


async def test_tokens_do_not_go_out_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Except on this machine."""
    written(tmp_path, "p", {**LOGIN, "base_url": "http://a.example"}, TOKEN)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_PROFILE", "p")
    async with Pipeline([], Anthropic()) as pipeline:
        with pytest.raises(ConfigurationError, match="https"):
            await pipeline.run(asked())


def _answering(refused: str | None = None) -> Any:
    """A provider that gives `a1`, `a2` ... for identities, and does not take one of them."""
    given = 0

    async def handler(request: Received) -> Reply:
        nonlocal given
        if request.target == "/v1/oauth/token":
            given += 1
            token = {"access_token": f"a{given}", "expires_in": 600, "token_type": "Bearer"}
            return complete(json.dumps(token).encode())
        if request.headers.get("authorization") == refused:
            return complete(b'{"type": "error", "error": {"type": "authentication_error"}}', 401)
        return complete()

    return handler
