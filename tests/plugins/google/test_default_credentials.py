"""Default credentials from odd, slow or dead sources: nobody goes without a token, or hangs."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from google.auth import exceptions

import lamella
from lamella import Outcome
from lamella._ports import run_in_thread
from lamella.testing import HTTPServer, Reply
from lamella.testing._http_wire import Received
from lamella.transports import _http
from lamella_google import _default_credentials
from lamella_google._default_credentials import DefaultCredentials

pytestmark = pytest.mark.anyio

RAISED: Any = exceptions  # which has no types
GOOD = {"access_token": "m1", "expires_in": 3600, "token_type": "Bearer"}
JSON = [("Content-Type", "application/json")]
FLAVOR = ("Metadata-Flavor", "Google")


class Source:
    """Credentials as google-auth has them, with a refresh that does what a test says."""

    quota_project_id = None

    def __init__(self, *steps: Callable[[], str | None], state: str = "INVALID") -> None:
        self.token: str | None = None if state == "INVALID" else "old"
        self.state = state
        self.steps = list(steps)

    @property
    def token_state(self) -> Any:
        return type("State", (), {"name": self.state})

    def refresh(self, _: Any) -> None:
        self.token = self.steps.pop(0)()
        self.state = "FRESH"


def failing(error: Exception) -> Callable[[], str]:
    """A step that fails."""

    def step() -> str:
        raise error

    return step


@pytest.fixture
def using(monkeypatch: pytest.MonkeyPatch) -> Callable[[Source], DefaultCredentials]:
    """Default credentials that google-auth finds at this source."""

    def use(source: Source) -> DefaultCredentials:
        monkeypatch.setattr("google.auth.default", lambda **_: (source, "p"))
        return DefaultCredentials("vertex")

    return use


async def header(credentials: DefaultCredentials) -> str:
    """What a request is sent with."""
    draft = _http.HTTPRequest(method="GET", url="https://h/", headers=())
    sent = await credentials.authorizer(run_in_thread)(draft)
    return dict(sent.headers)[b"Authorization"].decode()


@pytest.mark.parametrize("error", [KeyError("access_token"), TypeError(), RuntimeError("secret")])
async def test_any_failure_is_typed(
    using: Callable[[Source], DefaultCredentials], error: Exception
) -> None:
    """However google-auth fails, all who wait get an error of the library's, and never no token."""
    gate = threading.Event()

    def step() -> str:
        gate.wait(10)
        raise error

    credentials = using(Source(step, lambda: "t2"))
    caught: list[lamella.LamellaError] = []

    async def ask() -> None:
        with pytest.raises(lamella.AuthenticationError) as found:
            await header(credentials)
        caught.append(found.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        gate.set()
    assert len(caught) == 3
    assert all(each.outcome is Outcome.NOT_SENT and "secret" not in str(each) for each in caught)
    assert await header(credentials) == "Bearer t2"


async def test_no_token_is_no_token(using: Callable[[Source], DefaultCredentials]) -> None:
    """A source that is content and gives none fails the request, and sends nothing odd."""
    with pytest.raises(lamella.AuthenticationError):
        await header(using(Source(lambda: None)))


@pytest.mark.parametrize(
    "error",
    [
        RAISED.TransportError("away"),
        RAISED.RefreshError("internal_failure", retryable=True),
    ],
)
async def test_servers_in_trouble(
    using: Callable[[Source], DefaultCredentials], error: Exception
) -> None:
    """A token server that fails for now is a fault of the network; the credentials are not."""
    with pytest.raises(lamella.NetworkError) as caught:
        await header(using(Source(failing(error))))
    assert (caught.value.retryable, caught.value.outcome) == (True, Outcome.NOT_SENT)


async def test_an_old_token_does_not_wait(
    using: Callable[[Source], DefaultCredentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the old one still holds, no request hangs with a token server that hangs."""
    monkeypatch.setattr(_default_credentials, "STALE_SECONDS", 0.02)
    gate = threading.Event()

    def step() -> str:
        gate.wait(10)
        return "new"

    source = Source(step, state="STALE")
    credentials = using(source)
    credentials._credentials = source
    with anyio.fail_after(5):
        assert await header(credentials) == "Bearer old"
        assert await header(credentials) == "Bearer old"
        gate.set()
        await credentials._renewed(run_in_thread, may_wait=True)
    assert await header(credentials) == "Bearer new"


async def test_an_old_token_survives_failures(
    using: Callable[[Source], DefaultCredentials],
) -> None:
    """A renewal that fails early costs nobody anything."""
    source = Source(failing(KeyError()), failing(RAISED.TransportError()), state="STALE")
    credentials = using(source)
    credentials._credentials = source
    for _ in range(2):
        assert await header(credentials) == "Bearer old"


# --- the metadata server of a machine ----------------------------------------------------------


@pytest.fixture
async def metadata(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[list[Any]]:
    """A metadata server on loopback that gives these answers for tokens, and what is asked."""
    answers: list[Any] = []

    async def handler(request: Received) -> Reply:
        if "/token" in request.target:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Reply):
                return answer
            return Reply(200, [FLAVOR, *JSON], json.dumps(answer).encode())
        if "recursive" in request.target:
            body = json.dumps({"email": "a@b", "scopes": [], "aliases": []}).encode()
            return Reply(200, [FLAVOR, *JSON], body)
        return Reply(200, [FLAVOR, ("Content-Type", "text/plain")], b"of-the-machine")

    async with HTTPServer(handler) as server:
        host = server.url.removeprefix("http://")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        from google.auth.compute_engine import _metadata

        # Both are read when the module is imported, whoever did that with what variables.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
        monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", False)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        yield answers


async def test_the_machine_s_own_account(metadata: list[Any]) -> None:
    """It gives the token and the project."""
    metadata.append(GOOD)
    credentials = DefaultCredentials("vertex")
    assert await header(credentials) == "Bearer m1"
    assert await credentials.project(run_in_thread) == "of-the-machine"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Reply(404, [FLAVOR], b"secret"), lamella.NetworkError),
        ({"expires_in": 1}, lamella.AuthenticationError),
        ({"access_token": "x", "expires_in": "soon"}, lamella.AuthenticationError),
    ],
)
async def test_machines_without_a_token(
    metadata: list[Any], answer: Any, kind: type[lamella.LamellaError]
) -> None:
    """What it says instead is no credential, and is not repeated."""
    metadata.append(answer)
    with pytest.raises(kind) as caught:
        await header(DefaultCredentials("vertex"))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "secret" not in str(caught.value)
