"""Secrets of AWS Secrets Manager: values from moto's service, errors and signatures on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import anyio
import attrs
import pytest
from moto.server import ThreadedMotoServer

from lamella import ConfigurationError, Registry, Secret, SecretError, registry
from lamella._ports import default_ports
from lamella._registry import using
from lamella.testing import HTTPServer, Reply
from lamella.testing._http_wire import Received
from lamella_aws_secrets import AWSSecrets
from lamella_aws_secrets._reference import Reference, parsed

pytestmark = pytest.mark.anyio

VALUE = "sk-planted-0123456789abcdef"
SECRET_KEY = "the-secret-access-key-0123456789"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:app/openai-AbCdEf"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA" + "IOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


async def refused(source: AWSSecrets, reference: str = "app/openai") -> SecretError:
    """The error instead of a value: it never has AWS's words, credentials, or a value in it."""
    with pytest.raises(SecretError) as caught:
        await source(reference)
    assert not any(word in str(caught.value) for word in (VALUE, SECRET_KEY, "its own words"))
    return caught.value


# --- references --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app/openai", Reference("app/openai")),
        ("app/openai#key", Reference("app/openai", "key")),
        ("app#a.b?stage=AWSPREVIOUS", Reference("app", "a.b", "AWSPREVIOUS")),
        ("app?stage=AWSPREVIOUS#a%20b", Reference("app", "a b", "AWSPREVIOUS")),
        ("app?version=0-1&stage=A", Reference("app", None, "A", "0-1")),
        (ARN, Reference(ARN, region="eu-west-1")),
        (f"{ARN}#key", Reference(ARN, "key", region="eu-west-1")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    """A name or an ARN, a field, a stage or a version."""
    assert parsed(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "#key", "a b", "app#", "app#a#b", "app?stage=", "app?wrong=1", "app?stage=a?stage=b",
     "arn:aws:s3:::bucket", "app?version=a b", "x" * 513, "ä"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    """Whatever is none is refused with the syntax, and not repeated."""
    with pytest.raises(SecretError, match="names no secret. Write aws-secrets:NAME-or-ARN"):  # noqa: RUF043
        parsed(text)


def test_the_scheme_is_registered() -> None:
    """Installed, the distribution answers for `aws-secrets:`."""
    assert registry().origin("secret_sources", "aws-secrets").startswith("lamella-aws-secrets")
    assert Secret(f"aws-secrets:{ARN}#key").reference == f"aws-secrets:{ARN}#key"


# --- values, from moto -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """A service with some secrets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def call(url: str, action: str, **body: object) -> Any:
    """Ask moto, which checks no signature."""
    scope = "AKIA/20260101/eu-west-1/secretsmanager/aws4_request"
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"secretsmanager.{action}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    asked = Request(url, json.dumps(body).encode(), headers)
    with urlopen(asked, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def secrets(moto_url: str) -> dict[str, Any]:
    """What there is."""
    made = call(moto_url, "CreateSecret", Name="app/openai", SecretString="sk-version-one")
    fields = {"key": VALUE, "deep": {"er": "a deeper value"}, "with.dot": "dotted", "port": 5}
    call(moto_url, "CreateSecret", Name="app/json", SecretString=json.dumps(fields))
    call(moto_url, "CreateSecret", Name="app/binary", SecretBinary="YSBiaW5hcnkgdmFsdWU=")
    call(moto_url, "CreateSecret", Name="app/no-text", SecretBinary="//79")
    call(moto_url, "CreateSecret", Name="app/gone", SecretString="x")
    call(moto_url, "DeleteSecret", SecretId="app/gone")
    newer = call(moto_url, "PutSecretValue", SecretId="app/openai", SecretString=VALUE)
    return {"arn": made["ARN"], "version": made["VersionId"], "newer": newer["VersionId"]}


async def test_values(
    account: None, moto_url: str, secrets: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret is read by name and by ARN, in any version, whole or by field."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto_url)
    own = Registry([])
    own.add(secret_sources={"aws-secrets": AWSSecrets()})
    expected = {
        "app/openai": VALUE,
        secrets["arn"]: VALUE,
        "app/openai?stage=AWSPREVIOUS": "sk-version-one",
        f"app/openai?version={secrets['version']}": "sk-version-one",
        f"{secrets['arn']}?version={secrets['newer']}": VALUE,
        "app/json#key": VALUE,
        "app/json#deep.er": "a deeper value",
        "app/json#with.dot": "dotted",
        "app/binary": "a binary value",
    }
    with using(own):
        found = {each: await Secret(f"aws-secrets:{each}").fetch() for each in expected}
    assert found == expected


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("app/none", "AWS Secrets Manager has no secret 'app/none'. Look at its name"),
        ("app/gone", "The secret 'app/gone' is marked for deletion. Restore it"),
        ("app/openai#key", "The field 'key' of the secret 'app/openai' cannot be read"),
        ("app/json#none", "The field 'none' of the secret 'app/json' is not there"),
        ("app/json#deep.none", "The field 'deep.none' of the secret 'app/json' is not there"),
        ("app/json#port", "The field 'port' of the secret 'app/json' is no text"),
        ("app/json#port.of", "is not there"),
        ("app/no-text", "The secret 'app/no-text' is no text"),
    ],
)
async def test_what_is_not_there(
    account: None, moto_url: str, secrets: dict[str, Any], reference: str, said: str
) -> None:
    """The error says what is missing, and how to look."""
    error = await refused(AWSSecrets(endpoint=moto_url), reference)
    assert said in str(error)
    assert error.code == ("gone" if "marked" in said or "has no" in said else None)


# --- errors and signatures, on the wire --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "said", "passes"),
    [
        (400, "AccessDeniedException", "does not allow this program the secret 'app/", False),
        (400, "com.amazonaws#AccessDeniedException", "does not allow this program", False),
        (400, "ExpiredTokenException", "does not accept this program's credentials (E", False),
        (400, "InvalidSignatureException", "look at this machine's clock", False),
        (400, "DecryptionFailure", "cannot decrypt the secret 'app/openai'", False),
        (400, "ThrottlingException", "limits requests; the secret 'app/openai' was", True),
        (429, "", "limits requests", True),
        (500, "InternalServiceError", "failed (status 500); the secret", True),
        (503, "", "failed (status 503)", True),
        (400, "InvalidParameterException", "(status 400, InvalidParameterException)", False),
        (404, f"{VALUE} odd", "refused the secret 'app/openai' (status 404).", False),
        (301, "", "refused the secret 'app/openai' (status 301)", False),
    ],
)
async def test_errors(account: None, status: int, kind: str, said: str, passes: bool) -> None:
    """Each of the service's errors says what to do, and whether it may pass."""
    body = json.dumps({"__type": kind, "message": f"its own words, and {VALUE}"}).encode()

    async def handler(received: Received) -> Reply:
        return Reply(status, [], body)

    async with HTTPServer(handler) as server:
        error = await refused(AWSSecrets(endpoint=server.url))
    assert said in str(error)
    assert error.retryable is passes
    assert error.hint


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"SecretString": 5}', b"\xff"])
async def test_something_else_answers(account: None, body: bytes) -> None:
    """What is no answer of the service's is an error, whatever it is."""

    async def handler(received: Received) -> Reply:
        return Reply(200, [], body)

    async with HTTPServer(handler) as server:
        error = await refused(AWSSecrets(endpoint=server.url))
    assert "what answered is not AWS Secrets Manager" in str(error)


async def test_signatures(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is signed for the region and this service; the known signature of a known one."""
    received: list[Received] = []

    async def handler(request: Received) -> Reply:
        received.append(request)
        return Reply(200, [], json.dumps({"SecretString": VALUE}).encode())

    wall = attrs.evolve(default_ports(), wall=lambda: 1_735_689_600.0)
    monkeypatch.setattr("lamella._ports._default", wall)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a session token")
    async with HTTPServer(handler) as server:
        assert await AWSSecrets(endpoint=server.url)(f"{ARN}?stage=A") == VALUE
        assert await AWSSecrets(endpoint=server.url, region="us-east-2")("app/a") == VALUE
    headers = received[0].headers
    assert received[0].json() == {"SecretId": ARN, "VersionStage": "A"}
    assert headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert headers["x-amz-date"] == "20250101T000000Z"
    assert headers["x-amz-security-token"] == "a session token"
    scope = "AKIA" + "IOSFODNN7EXAMPLE/20250101/eu-west-1/secretsmanager/aws4_request"
    assert f"Credential={scope}," in headers["authorization"]
    signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    assert f"SignedHeaders={signed}," in headers["authorization"]
    assert re.search(r"Signature=[0-9a-f]{64}$", headers["authorization"])
    assert "/us-east-2/" in received[1].headers["authorization"]


async def test_exchanged_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refused credentials are looked for again, once: their file may have been written anew."""
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=s\n")

    async def handler(received: Received) -> Reply:
        if "/AKIANEW" in received.headers["authorization"].replace("=", "/"):
            return Reply(200, [], json.dumps({"SecretString": VALUE}).encode())
        write("AKIANEW")
        return Reply(400, [], b'{"__type": "UnrecognizedClientException"}')

    write("AKIAOLD")
    async with HTTPServer(handler) as server:
        assert await AWSSecrets(endpoint=server.url)("app/openai") == VALUE


async def test_nobody_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials, region or profile nothing is sent, and the error says what to set."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert "There are no credentials for AWS Secrets Manager. Set" in str(
        await refused(AWSSecrets())
    )
    error = await refused(AWSSecrets(profile="none"))
    assert "botocore raised ProfileNotFound" in str(error)
    monkeypatch.delenv("AWS_REGION")
    assert "region of AWS Secrets Manager is not known" in str(await refused(AWSSecrets()))
    (tmp_path / "config").write_text(
        f"[profile odd]\nregion = eu-west-1\ncredential_process = echo {VALUE}\n"
    )
    assert "could not be had: botocore raised" in str(await refused(AWSSecrets(profile="odd")))


@pytest.mark.parametrize(
    ("region", "more", "address"),
    [
        ("eu-west-1", {}, "https://secretsmanager.eu-west-1.amazonaws.com/"),
        ("cn-north-1", {}, "https://secretsmanager.cn-north-1.amazonaws.com.cn/"),
        (
            "us-east-1",
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "https://secretsmanager-fips.us-east-1.amazonaws.com/",
        ),
        (
            "eu-west-1",
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "https://secretsmanager.eu-west-1.api.aws/",
        ),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "https://h:1"}, "https://h:1/"),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "https://h/p"}, "https://h/p"),
    ],
)
def test_addresses(
    account: None,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
    more: dict[str, str],
    address: str,
) -> None:
    """Requests go to the region's address, in its partition, or where the environment says."""
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    request = AWSSecrets(region=region)._signer.signed(parsed("app"), 5)
    assert request.url == address


async def test_an_unknown_region(account: None) -> None:
    """Nothing is sent to an address that somebody else might have."""
    error = await refused(AWSSecrets(region="nowhere.example.com/x"))
    assert "'nowhere.example.com/x' is no region of AWS that is known" in str(error)


async def test_the_way_there(account: None) -> None:
    """Where nothing listens, or nothing answers, the error says so in time."""
    error = await refused(AWSSecrets(endpoint="http://127.0.0.1:1"))
    assert "could not be asked (ConnectError)" in str(error)
    assert error.retryable

    async def silent(received: Received) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with HTTPServer(silent) as server:
        error = await refused(AWSSecrets(endpoint=server.url, timeout=0.05))
    assert "did not answer in 0.05 s" in str(error)


def test_options() -> None:
    """What cannot be meant is refused when it is said."""
    with pytest.raises(ConfigurationError, match=r"timeout=-1.*seconds above 0"):
        AWSSecrets(timeout=-1)
    with pytest.raises(ConfigurationError, match=r"AWSSecrets\(endpoint=\.\.\.\) must begin"):
        AWSSecrets(endpoint="ftp://aws")
