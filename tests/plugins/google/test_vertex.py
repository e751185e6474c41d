"""The transport to Vertex AI: hosts, projects, and who asks; never the internet."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google_wire import JSON, TEXT, complete, stream, streamed

import lamella
from lamella import ChatRequest, Pipeline, TokenCountRequest
from lamella.testing import HTTPServer, Reply, transport_checks
from lamella.testing._http_wire import Received
from lamella.transports import HTTPOptions, HTTPReply, HTTPRequest
from lamella_google import Vertex, VertexOptions
from lamella_google._default_credentials import DefaultCredentials

pytestmark = pytest.mark.anyio

VARIABLES = (
    "GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_VERTEX_BASE_URL", "GOOGLE_GENAI_API_VERSION",
    "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own: no variables, no gcloud, no metadata server."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PATH", str(tmp_path))


class Heard(lamella.LamellaError):
    """Says that a request was heard."""


class Recorder:
    """An HTTP client that notes what would be sent, and sends nothing."""

    def __init__(self) -> None:
        self.seen: list[HTTPRequest] = []

    async def send(self, request: HTTPRequest, /) -> HTTPReply:
        """Note it."""
        self.seen.append(request)
        raise Heard

    async def aclose(self) -> None:
        """Nothing is open."""


async def asked(make: Callable[..., Vertex], model: str = "m") -> tuple[str, dict[str, str]]:
    """The address and the headers of a request."""
    client = Recorder()
    async with Pipeline([], make(client)) as pipeline:
        with pytest.raises(Heard):
            await pipeline.run(ChatRequest.of("hi", model=model))
    (seen,) = client.seen
    headers = {name.decode().lower(): value.decode() for name, value in seen.headers}
    return seen.url.removesuffix(":generateContent"), headers


def vertex(token: Any = "tok", **given: Any) -> Callable[..., Vertex]:
    """A maker of a transport that sends nothing."""
    api_key = given.pop("api_key", None)
    return lambda client: Vertex(
        token, **given, options=VertexOptions(api_key=api_key, client=client)
    )


# --- where -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "host"),
    [
        (None, "aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
    ],
)
async def test_hosts(location: str | None, host: str) -> None:
    """As Google's SDK builds them."""
    url, headers = await asked(vertex(project="p-1", location=location))
    where = location or "global"
    path = f"/v1beta1/projects/p-1/locations/{where}/publishers/google/models/m"
    assert url == f"https://{host}{path}"
    assert headers["authorization"] == "Bearer tok"


async def test_whole_resources_stay_as_they_are() -> None:
    """An endpoint of one's own names its project itself."""
    model = "projects/other/locations/l/endpoints/7"
    url, _ = await asked(vertex(project="p"), model)
    assert url == f"https://aiplatform.googleapis.com/v1beta1/{model}"


async def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Project, location and address come from the SDK's variables where they are not given."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-env")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "asia-east1")
    url, _ = await asked(vertex())
    assert url.startswith("https://asia-east1-aiplatform.googleapis.com/v1beta1/projects/from-env/")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://proxy.example/v1")
    url, _ = await asked(vertex())
    assert url.startswith("https://proxy.example/v1/projects/from-env/locations/asia-east1/")


async def test_other_addresses() -> None:
    """A gateway gets what was given: no project unless there is one, and no key of the machine."""
    url, headers = await asked(vertex(None, base_url="https://proxy.example/x"))
    assert url == "https://proxy.example/x/v1beta1/publishers/google/models/m"
    assert "authorization" not in headers


@pytest.mark.parametrize("location", ["", "evil.example/", "a.b", "EU"])
def test_locations_that_are_none(location: str) -> None:
    """A location becomes a part of the host, so that it must be one."""
    with pytest.raises(lamella.ConfigurationError, match="location"):
        Vertex("tok", project="p", location=location)


async def test_no_project() -> None:
    """A token has no project of its own."""
    with pytest.raises(lamella.ConfigurationError, match="no project"):
        await Vertex("tok").check()


# --- keys of express mode ----------------------------------------------------------------------


async def test_express_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key needs no project, whatever the variables say; one that is given holds."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "from-env")
    url, headers = await asked(vertex(None, api_key="k1"))
    assert url == "https://aiplatform.googleapis.com/v1beta1/publishers/google/models/m"
    assert headers["x-goog-api-key"] == "k1"
    url, _ = await asked(vertex(None, api_key="k1", project="p", location="eu"))
    assert "/projects/p/locations/eu/" in url


async def test_express_mode_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment counts where neither project nor location is known."""
    monkeypatch.setenv("GEMINI_API_KEY", "k2")
    _, headers = await asked(vertex(None))
    assert headers["x-goog-api-key"] == "k2"
    with pytest.raises(lamella.ConfigurationError, match="default credentials"):
        await Vertex(project="p").check()


def test_both_given() -> None:
    """A token and a key exclude one another."""
    with pytest.raises(lamella.ConfigurationError, match="both"):
        Vertex("tok", options=VertexOptions(api_key="k"))


# --- default credentials -----------------------------------------------------------------------


class TokenServer:
    """Gives tokens, one after the other."""

    def __init__(self, lifetime: int = 3600) -> None:
        self.lifetime = lifetime
        self.forms: list[dict[str, list[str]]] = []
        self.hold: anyio.Event | None = None
        self.refuses: dict[str, Any] | None = None

    async def __call__(self, request: Received) -> Reply:
        self.forms.append(parse_qs(request.body.decode()))
        number = len(self.forms)
        if self.hold is not None:
            await self.hold.wait()
        if self.refuses is not None:
            return Reply(400, JSON, json.dumps(self.refuses).encode())
        said = {"access_token": f"t{number}", "expires_in": self.lifetime, "token_type": "Bearer"}
        return Reply(200, JSON, json.dumps(said).encode())


@pytest.fixture(scope="module")
def private_key() -> str:
    """A key of a service account."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the credentials of a user who has logged in, for a token server."""

    def write(url: str) -> None:
        path = tmp_path / "user.json"
        found = {"type": "authorized_user", "client_id": "c", "client_secret": "s",
                 "refresh_token": "r", "quota_project_id": "quota-1"}  # fmt: skip
        path.write_text(json.dumps(found))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        # google-auth takes no other address for users, whatever their file says.
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", url)

    return write


@asynccontextmanager
async def cloud(tokens: TokenServer) -> AsyncIterator[tuple[HTTPServer, HTTPServer]]:
    """A server of answers, and one of tokens."""

    async def handler(request: Received) -> Reply:
        if "countTokens" in request.target:
            return complete({"totalTokens": 3})
        return stream() if "stream" in request.target else complete()

    async with HTTPServer(handler) as server, HTTPServer(tokens) as token_server:
        yield server, token_server


class AtGoogle(Vertex):
    """Takes a loopback address for one of Google's own."""

    @property
    def _at_google(self) -> bool:
        return True


async def test_a_user_who_has_logged_in(user_file: Callable[[str], None]) -> None:
    """One token serves many requests; the quota project goes along."""
    tokens = TokenServer()
    async with cloud(tokens) as (server, token_server):
        user_file(f"{token_server.url}/token")
        transport = AtGoogle(project="p", base_url=server.url, model="m")
        async with Pipeline([], transport) as pipeline:
            assert (await pipeline.run(ChatRequest.of("hi"))).text == TEXT
            assert (await streamed(pipeline)).text == TEXT
            assert (await pipeline.run(TokenCountRequest.of("hi"))).tokens == 3
        assert {seen.headers["authorization"] for seen in server.received} == {"Bearer t1"}
        assert {seen.headers["x-goog-user-project"] for seen in server.received} == {"quota-1"}
        assert [form["grant_type"] for form in tokens.forms] == [["refresh_token"]]


async def test_a_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_key: str
) -> None:
    """Its key signs for a token, and its file names the project."""
    tokens = TokenServer()
    async with cloud(tokens) as (server, token_server):
        path = tmp_path / "service.json"
        found = {"type": "service_account", "project_id": "of-the-file", "private_key_id": "1",
                 "private_key": private_key, "client_email": "a@b.iam.gserviceaccount.com",
                 "client_id": "1", "token_uri": f"{token_server.url}/token"}  # fmt: skip
        path.write_text(json.dumps(found))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        async with Pipeline([], AtGoogle(base_url=server.url, model="m")) as pipeline:
            assert (await pipeline.run(ChatRequest.of("hi"))).text == TEXT
        (seen,) = server.received
        assert "/projects/of-the-file/locations/global/" in seen.target
        assert seen.headers["authorization"] == "Bearer t1"
        assert tokens.forms[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]


async def test_tokens_are_renewed_before_they_expire(user_file: Callable[[str], None]) -> None:
    """One that lives for a minute only is as good as expired."""
    tokens = TokenServer(lifetime=60)
    async with cloud(tokens) as (server, token_server):
        user_file(f"{token_server.url}/token")
        async with Pipeline([], AtGoogle(project="p", base_url=server.url, model="m")) as pipeline:
            for _ in range(3):
                await pipeline.run(ChatRequest.of("hi"))
        sent = [seen.headers["authorization"] for seen in server.received]
        assert sent == ["Bearer t1", "Bearer t2", "Bearer t3"]


async def test_one_renewal_at_a_time(user_file: Callable[[str], None]) -> None:
    """However many ask at once, the token server is asked once; who goes away stops nobody."""
    tokens = TokenServer()
    tokens.hold = anyio.Event()
    async with cloud(tokens) as (server, token_server):
        user_file(f"{token_server.url}/token")
        transport = AtGoogle(project="p", base_url=server.url, model="m")
        texts: list[str] = []

        async def ask(scope: anyio.CancelScope) -> None:
            with scope:
                texts.append((await pipeline.run(ChatRequest.of("hi"))).text)

        async with Pipeline([], transport) as pipeline, anyio.create_task_group() as group:
            first = anyio.CancelScope()
            group.start_soon(ask, first)
            with anyio.fail_after(10):
                await token_server.until(lambda _: len(tokens.forms) == 1)
            for _ in range(5):
                group.start_soon(ask, anyio.CancelScope())
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            tokens.hold.set()
        assert texts == [TEXT] * 5
        assert len(tokens.forms) == 1


async def test_a_renewal_that_never_began() -> None:
    """Cancelled before its thread began, it is taken up by the next who waits."""
    credentials = DefaultCredentials("vertex")
    began = anyio.Event()

    async def stuck(_: Any, *__: Any) -> Any:
        began.set()
        await anyio.sleep_forever()

    async def at_once(function: Any, *args: Any) -> Any:
        return function(*args)

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def lead() -> None:
            with scope:
                await credentials.project(stuck)

        async def follow() -> None:
            with pytest.raises(lamella.ConfigurationError, match="no usable default credentials"):
                await credentials.project(at_once)

        group.start_soon(lead)
        await began.wait()
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()


async def test_credentials_that_are_refused(user_file: Callable[[str], None]) -> None:
    """An error of authentication; nothing was sent, and the server's words are not repeated."""
    tokens = TokenServer()
    tokens.refuses = {"error": "invalid_grant", "error_description": "secret words"}
    async with cloud(tokens) as (server, token_server):
        user_file(f"{token_server.url}/token")
        async with Pipeline([], AtGoogle(project="p", base_url=server.url, model="m")) as pipeline:
            with pytest.raises(lamella.AuthenticationError) as caught:
                await pipeline.run(ChatRequest.of("hi"))
            assert caught.value.outcome is lamella.Outcome.NOT_SENT
            assert "secret" not in str(caught.value)
            assert not server.received
            tokens.refuses = None  # and once they are accepted, all is well
            assert (await pipeline.run(ChatRequest.of("hi"))).text == TEXT


async def test_token_server_that_is_away(user_file: Callable[[str], None]) -> None:
    """A fault of the network, which another try may not meet."""
    async with cloud(TokenServer()) as (server, token_server):
        user_file(f"{token_server.url}/token")
        await token_server.aclose()
        async with Pipeline([], AtGoogle(project="p", base_url=server.url, model="m")) as pipeline:
            with pytest.raises(lamella.NetworkError, match="token server") as caught:
                await pipeline.run(ChatRequest.of("hi"))
            assert caught.value.retryable


async def test_no_credentials() -> None:
    """Says what to do."""
    with pytest.raises(lamella.ConfigurationError, match="gcloud auth") as caught:
        await Vertex(project="p").check()
    assert caught.value.code == "no_key"


async def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file is a mistake of configuration."""
    path = tmp_path / "broken.json"
    path.write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(lamella.ConfigurationError, match="no usable default credentials"):
        await Vertex(project="p").check()


# --- the contract ------------------------------------------------------------------------------


async def test_conformance() -> None:
    """The transport keeps the contract over real sockets."""
    async with cloud(TokenServer()) as (server, _):
        made = lambda: Vertex("tok", project="p", base_url=server.url)  # noqa: E731 - for the kit
        for check in transport_checks(made, ChatRequest.of("hi", model="m")):
            await check()
        await server.until(lambda it: not it.open_connections)


async def test_tokens_by_function() -> None:
    """A function is asked for each request, so that a new token is taken up."""
    numbers = iter(range(9))

    async def token() -> str:
        return f"f{next(numbers)}"

    async with cloud(TokenServer()) as (server, _):
        transport = Vertex(token, project="p", base_url=server.url, model="m",
                           options=VertexOptions(http=HTTPOptions()))  # fmt: skip
        async with Pipeline([], transport) as pipeline:
            await pipeline.run(ChatRequest.of("hi"))
            await pipeline.run(ChatRequest.of("hi"))
        sent = [seen.headers["authorization"] for seen in server.received]
        assert sent == ["Bearer f0", "Bearer f1"]
        assert transport.card_provider == "vertex"
        assert "p" in transport.fingerprint
