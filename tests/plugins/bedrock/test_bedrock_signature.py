"""Signatures: of what is really sent, as a verifier of the tests' own reads it off the wire."""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import botocore.session
import pytest
from bedrock_wire import ACCESS, CLAUDE, SECRET, TOKEN, complete, request, serving
from botocore.config import Config

from lamella import OpenAttempt, Pipeline, middleware, observed
from lamella.testing._http_server import HTTPServer
from lamella.testing._http_wire import Received
from lamella.transports import HTTPRequest
from lamella_bedrock import AWSCredentials
from lamella_bedrock._models import quoted
from lamella_bedrock._signature import Signer

pytestmark = pytest.mark.anyio

MODELS = [
    "amazon.nova-lite-v1:0",
    CLAUDE,
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
    "arn:aws:sagemaker:us-west-2:123456789012:endpoint/my-endpoint",
]


def verify(seen: Received, secret: str, region: str) -> None:
    """Compute the signature of a request as AWS documents it, and compare."""
    kind, _, rest = seen.headers["authorization"].partition(" ")
    assert kind == "AWS4-HMAC-SHA256"
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    day, named, service, end = fields["Credential"].split("/")[-4:]
    assert (named, service, end) == (region, "bedrock", "aws4_request")
    names = fields["SignedHeaders"].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    path, _, query = seen.target.partition("?")
    lines = [seen.method, quote(path, safe="/-_.~"), query]
    lines += [f"{name}:{' '.join(seen.headers[name].split())}" for name in names]
    lines += ["", fields["SignedHeaders"], hashlib.sha256(seen.body).hexdigest()]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    scope = f"{day}/{region}/bedrock/aws4_request"
    words = "\n".join([kind, seen.headers["x-amz-date"], scope, digest])
    key = f"AWS4{secret}".encode()
    for part in (day, region, "bedrock", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert hmac.digest(key, words.encode(), "sha256").hex() == fields["Signature"]


async def test_what_observers_send_along_goes_unsigned() -> None:
    """Proxies may change a trace's context on the way; the signature holds all the same."""

    class Tracing:
        def attempt_opened(self, attempt: OpenAttempt, request: Any) -> None:
            attempt.headers = {"traceparent": "00-1-2-01", "X-Amz-Date": "never"}

        def attempt_closed(self, attempt: OpenAttempt, request: Any) -> None:
            """Nothing to do."""

    @middleware(phase="observe")
    async def traced(asked: Any, call_next: Any) -> Any:
        return await call_next(observed(asked, Tracing()))

    async with serving(complete()) as (server, plain):
        await Pipeline([traced], plain.transport).run(request())
        (seen,) = server.received
    assert seen.headers["traceparent"] == "00-1-2-01"
    assert "traceparent" not in seen.headers["authorization"]
    verify(seen, SECRET, "eu-west-1")


@pytest.mark.parametrize("model", MODELS)
async def test_what_is_sent_is_what_is_signed(model: str) -> None:
    """Colons and slashes in a model's id are quoted once in the path, and signed as AWS does."""
    options = {"session_token": TOKEN}
    async with serving(complete(), model=model, **options) as (server, pipeline):
        await pipeline.run(request())
        (seen,) = server.received
    verify(seen, SECRET, "eu-west-1")
    assert seen.headers["x-amz-security-token"] == TOKEN
    signed = seen.headers["authorization"]
    assert f"Credential={ACCESS}/" in signed
    assert SECRET not in str(dict(seen.headers))


@pytest.mark.parametrize("model", MODELS)
async def test_botocore_sends_to_the_same_place(model: str) -> None:
    """Botocore's own client quotes the path likewise, and the same verifier finds it well."""

    async def handler(_: Received) -> object:
        return complete()

    async with HTTPServer(handler) as server:  # type: ignore[arg-type]

        def call() -> None:
            client = botocore.session.Session().create_client(
                "bedrock-runtime",
                region_name="eu-west-1",
                endpoint_url=server.url,
                aws_access_key_id=ACCESS,
                aws_secret_access_key=SECRET,
                config=Config(retries={"total_max_attempts": 1}),
            )
            client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": "hi"}]}])
            client.close()

        await anyio.to_thread.run_sync(call)
        (seen,) = server.received
    verify(seen, SECRET, "eu-west-1")
    assert seen.target == f"/model/{quoted(model)}/converse"


async def test_large_bodies_are_signed_too() -> None:
    """What is signed in a thread, because it is large, is signed as well."""
    async with serving(complete()) as (server, pipeline):
        await pipeline.run(request().evolve(messages="x" * 1_200_000))
        (seen,) = server.received
    verify(seen, SECRET, "eu-west-1")


async def test_the_instant() -> None:
    """The date is that of the clock, in UTC, and the signature is the same for the same second."""
    draft = HTTPRequest(method="POST", url="https://h.example/model/a%3Ab/converse", body=b"{}")
    keys = AWSCredentials(ACCESS, SECRET)
    signer = Signer("us-east-1", lambda: 1_790_000_000.5)
    headers = dict(signer.headers(draft, keys))
    assert headers[b"X-Amz-Date"] == b"20260921T141320Z"
    assert dict(signer.headers(draft, keys)) == headers
    now = dict(Signer("us-east-1").headers(draft, keys))[b"X-Amz-Date"].decode()
    assert now[:8] == time.strftime("%Y%m%d", time.gmtime())
