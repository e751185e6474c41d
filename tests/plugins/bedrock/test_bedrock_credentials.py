"""Who asks: keys that were given, those of the environment, botocore's chain, and where."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from bedrock_wire import ACCESS, KEYS, SECRET, TOKEN, complete, failed, request, serving

from lamella import ConfigurationError, LamellaError, Pipeline, SecretError
from lamella._ports import run_in_thread
from lamella.testing import Reply
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella_bedrock import AWSCredentials, Bedrock, BedrockOptions
from lamella_bedrock._credentials import Chain
from lamella_bedrock._endpoint import is_amazon, own_address, region_in, runtime_address

pytestmark = pytest.mark.anyio

AMAZON = "https://bedrock-runtime.eu-west-1.amazonaws.com"


async def authorized(transport: Bedrock) -> dict[str, str]:
    """The headers that a transport adds, and the address it goes to, without a network."""
    from lamella.transports import HTTPRequest

    try:
        place = await transport._make_place(run_in_thread)
        url = place.locate("/model/m/converse", "m")
        asked = await place.authorize(HTTPRequest(method="POST", url=url))
        return {"url": url, **{name.decode().lower(): v.decode() for name, v in asked.headers}}
    finally:
        await transport.aclose()


# --- what was given --------------------------------------------------------------------------


async def test_keys_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys may be given by reference, and are read for each request."""
    monkeypatch.setenv("MY_ID", "AKIDONE")
    monkeypatch.setenv("MY_SECRET", SECRET)
    options = {"access_key": "env:MY_ID", "secret_key": "env:MY_SECRET"}
    async with serving(complete(), **options) as (server, pipeline):
        await pipeline.run(request())
        monkeypatch.setenv("MY_ID", "AKIDTWO")
        await pipeline.run(request())
        seen = [each.headers["authorization"] for each in server.received]
    assert ["AKIDONE" in seen[0], "AKIDTWO" in seen[1]] == [True, True]


@pytest.mark.parametrize("reference", [True, False])
async def test_rotated_keys_are_taken_up_at_once(
    reference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused signature is made again with the keys of now, where there are others by then."""
    monkeypatch.setenv("MY_ID", "AKIDONE")
    monkeypatch.setenv("MY_SECRET", SECRET)
    asked: list[str] = []

    async def handler(received: Received) -> Any:
        asked.append(received.headers["authorization"].partition("/")[0][-7:])
        if asked[-1] == "AKIDTWO":
            return complete()
        monkeypatch.setenv("MY_ID", "AKIDTWO")
        return Reply(403, [("x-amzn-errortype", "UnrecognizedClientException")], b"{}")

    options = BedrockOptions(access_key="env:MY_ID", secret_key="env:MY_SECRET")
    if not reference:
        given = lambda: AWSCredentials(os.environ["MY_ID"], SECRET)  # noqa: E731
        options = BedrockOptions(credentials=given)
    async with HTTPServer(handler) as server:
        made = Bedrock(region="eu-west-1", model="m", endpoint_url=server.url, options=options)
        async with Pipeline([], made) as pipeline:
            response = await pipeline.run(request())
    assert (asked, len(response.trace.attempts)) == (["AKIDONE", "AKIDTWO"], 2)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_function(slow: bool) -> None:
    """A function, plain or async, gives the credentials of each request."""

    def plain() -> AWSCredentials:
        return AWSCredentials(ACCESS, SECRET, TOKEN)

    async def later() -> AWSCredentials:
        await anyio.lowlevel.checkpoint()
        return plain()

    given: Any = later if slow else plain
    none = {"access_key": None, "secret_key": None}
    async with serving(complete(), credentials=given, **none) as (server, pipeline):
        await pipeline.run(request())
        assert server.received[0].headers["x-amz-security-token"] == TOKEN


async def test_a_function_that_gives_something_else() -> None:
    """What is no credentials is an error that does not show it."""
    none = {"access_key": None, "secret_key": None}
    wrong: Any = lambda: "a-secret"  # noqa: E731
    async with serving(complete(), credentials=wrong, **none) as (_, pipeline):
        error = await failed(pipeline)
        assert isinstance(error, SecretError)
        assert "a-secret" not in str(error)


@pytest.mark.parametrize("given", [AWSCredentials("", SECRET), AWSCredentials(ACCESS, "")])
async def test_a_function_that_gives_empty_keys(given: AWSCredentials) -> None:
    """Nothing is signed with nothing."""
    none = {"access_key": None, "secret_key": None}
    async with serving(complete(), credentials=lambda: given, **none) as (server, pipeline):
        assert isinstance(await failed(pipeline), SecretError)
        assert not server.received


async def test_an_api_key() -> None:
    """A Bedrock API key goes as a bearer token, and nothing is signed."""
    none = {"access_key": None, "secret_key": None}
    async with serving(complete(), api_key="bedrock-api-key-1", **none) as (server, pipeline):
        await pipeline.run(request())
        (seen,) = server.received
    assert seen.headers["authorization"] == "Bearer bedrock-api-key-1"
    assert "x-amz-date" not in seen.headers


@pytest.mark.parametrize(
    "given",
    [
        {"access_key": "a"},
        {"session_token": "t"},
        {**KEYS, "api_key": "k"},
        {"api_key": "k", "credentials": lambda: AWSCredentials("a", "b")},
    ],
)
def test_what_does_not_fit_together(given: dict[str, Any]) -> None:
    """Half of a key, or two ways at once, is refused where it is written."""
    with pytest.raises(ConfigurationError):
        BedrockOptions(**given)


def test_keys_are_not_shown() -> None:
    """Neither options nor credentials show a secret."""
    shown = repr(BedrockOptions(**KEYS)) + repr(AWSCredentials(ACCESS, SECRET, TOKEN))
    assert SECRET not in shown
    assert TOKEN not in shown


# --- what the environment has ----------------------------------------------------------------


async def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own variables serve AWS's own hosts."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    found = await authorized(Bedrock())
    assert found["url"] == f"{AMAZON}/model/m/converse"
    assert found["x-amz-security-token"] == TOKEN


async def test_a_bearer_token_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """With AWS_BEARER_TOKEN_BEDROCK nothing is signed, as in botocore."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "abc-token")
    found = await authorized(Bedrock(region="eu-west-1"))
    assert found["authorization"] == "Bearer abc-token"


async def test_somebody_elses_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the environment do not go to an address that is not AWS's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "abc-token")
    found = await authorized(Bedrock(endpoint_url="https://gateway.example"))
    assert found == {"url": "https://gateway.example/model/m/converse"}


async def test_an_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that the environment names gets the credentials that stand beside it."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "abc-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "https://gateway.example:443/x/")
    found = await authorized(Bedrock())
    assert found["url"] == "https://gateway.example/x/model/m/converse"
    assert found["authorization"] == "Bearer abc-token"


async def test_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile gives keys and region, whatever the variables say."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    keys = f"aws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\n"
    (tmp_path / "credentials").write_text(f"[work]\n{keys}")
    (tmp_path / "config").write_text("[profile work]\nregion=ap-south-1\n")
    found = await authorized(Bedrock(profile="work"))
    assert found["url"].startswith("https://bedrock-runtime.ap-south-1.amazonaws.com/")
    assert f"{ACCESS}/" in found["authorization"]
    assert "/ap-south-1/bedrock/" in found["authorization"]


async def test_a_profile_without_a_region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the profile names no region, the environment does."""
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    keys = f"aws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\n"
    (tmp_path / "credentials").write_text(f"[work]\n{keys}")
    found = await authorized(Bedrock(profile="work"))
    assert found["url"].startswith("https://bedrock-runtime.us-west-2.amazonaws.com/")


@pytest.mark.parametrize("given", [{"profile": "gone"}, {}])
async def test_nothing_to_go_by(given: dict[str, Any]) -> None:
    """Without a region, or a profile of that name, the error says what to do."""
    with pytest.raises(ConfigurationError, match="region"):
        await authorized(Bedrock(**given))


async def test_no_credentials() -> None:
    """Without credentials the error says where they are looked for."""
    with pytest.raises(ConfigurationError, match="no key") as caught:
        await authorized(Bedrock(region="eu-west-1"))
    assert "AWS_BEARER_TOKEN_BEDROCK" in (caught.value.hint or "")


# --- the chain -------------------------------------------------------------------------------


class Frozen:
    """What botocore freezes."""

    token = None

    def __init__(self, number: int) -> None:
        self.access_key, self.secret_key = f"AKID{number}", "s"


class Renewing:
    """Credentials that run out, as botocore has them: seconds left, and how often renewed."""

    def __init__(self, left: float = 3600.0) -> None:
        self.left = left
        self.renewed = 0
        self.at_once = self.most_at_once = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fails: Exception | None = None
        self._lock = threading.Lock()
        self._asked = threading.Event()

    def shut(self) -> None:
        """Answer nobody until `gate` is open."""
        self.gate.clear()
        self._asked.clear()

    async def asked(self) -> None:
        """Wait until somebody asks for them."""
        assert await anyio.to_thread.run_sync(self._asked.wait, 10)

    def refresh_needed(self, refresh_in: float = 900.0) -> bool:
        return self.left < refresh_in

    def get_frozen_credentials(self) -> Frozen:
        with self._lock:
            self.at_once += 1
            self._asked.set()
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            assert self.gate.wait(10)
            if self.fails is not None:
                raise self.fails
            if self.refresh_needed():
                self.left = 3600.0
                self.renewed += 1
            return Frozen(self.renewed)
        finally:
            with self._lock:
                self.at_once -= 1


def chain(found: Renewing) -> Chain:
    """A chain that finds these."""
    return Chain(None, run_in_thread, "bedrock", lambda: found)


async def test_one_at_a_time() -> None:
    """Many callers at once have the chain asked once."""
    found = Renewing(left=0.0)
    it = chain(found)
    got: list[str] = []

    async def ask() -> None:
        got.append((await it.fetch()).access_key)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert got == ["AKID1"] * 20
    assert (found.renewed, found.most_at_once) == (1, 1)


async def test_old_credentials_serve_while_new_ones_are_fetched() -> None:
    """Near their end, one caller has them renewed and the others do not wait."""
    found = Renewing()
    it = chain(found)
    assert (await it.fetch()).access_key == "AKID0"
    found.left = 700.0
    found.shut()
    async with anyio.create_task_group() as group:
        group.start_soon(it.fetch)
        await found.asked()
        with anyio.fail_after(5):
            assert (await it.fetch()).access_key == "AKID0"
        found.gate.set()
    assert (await it.fetch()).access_key == "AKID1"


async def test_refused_credentials_are_looked_for_again() -> None:
    """Once for all who were refused at once, and not again for five seconds."""
    found, loads = Renewing(), list[int]()

    def load() -> Renewing:
        loads.append(1)
        return found

    it = Chain(None, run_in_thread, "bedrock", load)
    await it.fetch()
    found.renewed = 1  # somebody has exchanged them in their file
    told: list[bool] = []

    async def refused() -> None:
        told.append(await it.renewed("AKID0"))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(refused)
    assert (told, len(loads)) == ([True] * 20, 2)
    assert (await it.fetch()).access_key == "AKID1"
    assert await it.renewed("AKID1") is False
    assert len(loads) == 2


async def test_refused_credentials_stay_if_the_chain_fails() -> None:
    """The error is for who asked; the next request goes on with what there is."""
    found = Renewing()
    it = chain(found)
    await it.fetch()
    found.fails = RuntimeError()
    with pytest.raises(SecretError):
        await it.renewed("AKID0")
    assert (await it.fetch()).access_key == "AKID0"


async def test_what_botocore_raises() -> None:
    """Errors of botocore's are typed, without their words; the next caller asks anew."""
    found = Renewing()
    found.fails = RuntimeError("wJalr-secret")
    it = chain(found)
    with pytest.raises(SecretError) as caught:
        await it.fetch()
    assert "wJalr" not in str(caught.value)
    assert caught.value.__cause__ is None
    found.fails = None
    assert (await it.fetch()).access_key == "AKID0"


async def test_a_caller_that_gives_up() -> None:
    """When the one who asks is cancelled, those who wait ask for themselves."""
    found = Renewing()
    found.shut()
    it = chain(found)
    got: list[str] = []

    async def ask() -> None:
        got.append((await it.fetch()).access_key)

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as first:
            first.start_soon(it.fetch)
            await found.asked()
            outer.start_soon(ask)
            await anyio.sleep(0.01)
            first.cancel_scope.cancel()
        found.gate.set()
    assert got == ["AKID0"]


async def given_up(it: Chain, found: Renewing) -> None:
    """A caller that asks and goes away."""
    found.shut()
    async with anyio.create_task_group() as group:
        group.start_soon(it.fetch)
        await found.asked()
        group.cancel_scope.cancel()


async def test_a_dead_source() -> None:
    """Callers that run out of time, one after the other, leave one thread behind, not many."""
    found = Renewing()
    it = chain(found)
    await given_up(it, found)
    for _ in range(3):
        with anyio.move_on_after(0.001) as scope:
            await it.fetch()
        assert scope.cancelled_caught
    assert found.most_at_once == 1
    found.gate.set()
    assert (await it.fetch()).access_key == "AKID0"


async def test_a_source_that_is_stuck() -> None:
    """After a minute nobody waits for an asking any more, and the next caller begins another."""
    found = Renewing()
    it = chain(found)
    now = [0.0]
    it._now = lambda: now[0]
    await given_up(it, found)
    now[0] = 61.0
    await given_up(it, found)
    assert found.most_at_once == 2
    found.gate.set()
    assert (await it.fetch()).access_key == "AKID0"


async def test_several_loops() -> None:
    """Callers on other loops wait for the same asking."""
    found = Renewing(left=0.0)
    it = chain(found)

    def other() -> str:
        return anyio.run(it.fetch).access_key

    got: list[str] = []

    async def one() -> None:
        got.append(await anyio.to_thread.run_sync(other))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await it.fetch()
    assert got == ["AKID1"] * 3
    assert found.most_at_once == 1


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "bedrock-runtime.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "bedrock-runtime.us-iso-east-1.c2s.ic.gov"),
    ],
)
def test_partitions(region: str, host: str) -> None:
    """Each partition has a domain of its own, which botocore's table says likewise."""
    import botocore.session

    client = botocore.session.Session().create_client(
        "bedrock-runtime", region, aws_access_key_id="a", aws_secret_access_key="b"
    )
    assert runtime_address(region) == f"https://{host}" == client.meta.endpoint_url
    assert region_in(runtime_address(region)) == region
    client.close()


def test_other_endpoints() -> None:
    """FIPS and dual-stack endpoints have names of their own."""
    assert runtime_address("us-east-1", fips=True, dual_stack=True) == (
        "https://bedrock-runtime-fips.us-east-1.api.aws"
    )


@pytest.mark.parametrize(
    ("address", "own"),
    [
        (AMAZON, True),
        ("https://vpce-1-x.bedrock-runtime.us-east-1.vpce.amazonaws.com", True),
        ("http://bedrock-runtime.eu-west-1.amazonaws.com", False),
        ("https://evil-amazonaws.com", False),
        ("https://amazonaws.com.evil.example", False),
    ],
)
def test_whose_host(address: str, own: bool) -> None:
    """Only AWS's domains, under TLS, are AWS's."""
    assert is_amazon(address) is own


def test_addresses_as_they_are_signed() -> None:
    """Capitals and default ports of an address do not stand in a host header."""
    assert own_address("https://Gateway.Example:443/x/", "it") == "https://gateway.example/x"
    assert own_address("http://h.example:8080", "it") == "http://h.example:8080"


@pytest.mark.parametrize("region", ["", "us-east-1.evil.example/", "US-EAST-1", "us east"])
def test_no_region(region: str) -> None:
    """What is no region's name never becomes a part of a host's."""
    with pytest.raises(ConfigurationError):
        Bedrock(region=region)


async def test_check_and_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` looks for credentials without a network; of its health nobody can know for free."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "abc-token")
    transport = Bedrock(region="eu-west-1")
    await transport.check()
    assert (await transport.health()).well is None
    await transport.aclose()
    with pytest.raises(LamellaError):
        await Bedrock(region="eu-west-1", profile="gone").check()


async def test_unsigned() -> None:
    """To somebody else's address, without credentials, requests go as they are."""

    async def handler(_: object) -> Any:
        return complete()

    async with HTTPServer(handler) as server:
        transport = Bedrock(endpoint_url=server.url, model="m")
        async with Pipeline([], transport) as pipeline:
            await pipeline.run(request())
        assert "authorization" not in server.received[0].headers
