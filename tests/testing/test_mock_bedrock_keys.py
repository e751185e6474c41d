"""Who may use the mock of Bedrock: signatures are verified as Amazon verifies them."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote, urlencode

import anyio
import pytest
from bedrock_clients import ACCESS, SECRET, asked, client_of
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from lamella._mock_rejections import Rejection
from lamella.testing import MockServer
from lamella.testing._http_wire import Headers, Received
from lamella.testing._mock_bedrock._signature import check_identity

KEY = f"{ACCESS}:{SECRET}"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/ab.cd:0"


@pytest.fixture
async def server() -> AsyncIterator[MockServer]:
    """A server that accepts signatures, some with a session, and an API key."""
    async with MockServer(keys=[KEY, "ASIATEMPORARY:secret:token/==", "bedrock-api-key"]) as made:
        yield made


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["mock", "eu.mock-v1:0", ARN, "mock;usage=zero", "a b+c~d%2F"])
async def test_signed_paths(server: MockServer, model: str) -> None:
    """Colons, slashes, per cents and blanks in a model's name are signed as they are sent."""
    with client_of(server) as client:
        assert (await asked(client, model))["stopReason"] == "end_turn"
    assert server.requests[-1].path == f"/model/{model}/converse"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aws_secret_access_key": "another"}, "InvalidSignatureException"),
        ({"aws_access_key_id": "AKIAUNKNOWN"}, "UnrecognizedClientException"),
        ({"aws_session_token": "none"}, "UnrecognizedClientException"),
    ],
)
async def test_wrong_keys(
    server: MockServer, monkeypatch: pytest.MonkeyPatch, changes: Any, code: str
) -> None:
    """The SDK raises what Amazon answers."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    with client_of(server, **changes) as client, pytest.raises(ClientError, match=code) as caught:
        await asked(client)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.anyio
async def test_sessions(server: MockServer) -> None:
    """Temporary keys come with their token."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    keys = dict(zip(names, ("ASIATEMPORARY", "secret", "token/=="), strict=True))
    with client_of(server, **keys) as client:
        assert await asked(client)


@pytest.mark.anyio
async def test_api_keys(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain key is a bearer's, as AWS_BEARER_TOKEN_BEDROCK has it."""
    none: Any = {"aws_access_key_id": None, "aws_secret_access_key": None}
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key")
    with client_of(server, **none) as client:
        assert await asked(client)
    assert server.requests[-1].headers["authorization"] == "Bearer bedrock-api-key"
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)  # a pair is no API key
    with client_of(server, **none) as client, pytest.raises(ClientError, match="API Key is valid"):
        await asked(client)


def test_without_keys_everybody_may() -> None:
    """Nothing is looked at then."""
    check_identity(received(AWSRequest("POST", "http://host/model/m/converse")), ())


# --- the signature itself ----------------------------------------------------------------------


def received(request: AWSRequest) -> Received:
    """A signed request as a server gets it."""
    target = str(request.url).removeprefix("http://host")
    headers = [(name, each.encode().decode("latin-1")) for name, each in request.headers.items()]
    return Received(
        index=0,
        connection=0,
        method=str(request.method),
        target=target,
        path=unquote(target.partition("?")[0]),
        query={},
        version="HTTP/1.1",
        headers=Headers([*headers, ("Host", "host")]),
        body=request.data or b"",
    )


def signed(request: AWSRequest, service: str = "bedrock") -> AWSRequest:
    """A request with the SDK's own signature."""
    SigV4Auth(Credentials(ACCESS, SECRET), service, "us-east-1").add_auth(request)
    return request


# The SDK takes any white space of Unicode for a blank, Amazon only blanks.
_LETTERS = st.characters(
    max_codepoint=0x2FF, exclude_categories=["Cc", "Zs"], include_characters=" "
)


@given(
    path=st.from_regex(r"(/([A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-F]{2}){0,8}){1,5}", fullmatch=True),
    query=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4),
    header=st.text(_LETTERS, max_size=20),
    body=st.binary(max_size=50),
)
def test_what_the_sdk_signs_is_accepted(
    path: str, query: list[tuple[str, str]], header: str, body: bytes
) -> None:
    """Whatever path, query, headers and body; and one changed byte is found out."""
    url = f"http://host{path}?{urlencode(query, quote_via=quote, safe='~')}"
    request = received(signed(AWSRequest("POST", url, headers={"X-Note": header}, data=body)))
    check_identity(request, [KEY])
    changed = Received(**{**_fields(request), "body": body + b"."})
    with pytest.raises(Rejection) as caught:
        check_identity(changed, [KEY])
    assert caught.value.code == "InvalidSignatureException"


def _fields(request: Received) -> dict[str, Any]:
    names = ("index", "connection", "method", "target", "path", "query", "version", "headers")
    return {name: getattr(request, name) for name in names}


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("Basic abc", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=a/b", "IncompleteSignatureException"),
        (
            f"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature={'0' * 64}",
            "IncompleteSignatureException",
        ),
    ],
)
def test_malformed_authorizations(authorization: str | None, code: str) -> None:
    """Each has a word of its own."""
    request = AWSRequest("POST", "http://host/model/m/converse", data=b"{}")
    if authorization is not None:
        request.headers["Authorization"] = authorization
    assert refused(request) == code


def refused(request: AWSRequest) -> str | None:
    """The code with which a request is refused."""
    with pytest.raises(Rejection) as caught:
        check_identity(received(request), [KEY])
    return caught.value.code


def test_scope_date_and_headers_must_fit() -> None:
    """Another service, another day, and a header that is not signed."""
    url = "http://host/model/m/converse"
    assert refused(signed(AWSRequest("POST", url), "s3")) == "InvalidSignatureException"
    request = signed(AWSRequest("POST", url))
    request.headers.replace_header("X-Amz-Date", "20200101T000000Z")
    assert refused(request) == "InvalidSignatureException"
    request = signed(AWSRequest("POST", url))
    request.headers["X-Amz-Other"] = "not signed"
    assert refused(request) == "InvalidSignatureException"


@pytest.mark.anyio
async def test_lists_of_models_need_a_key_too(server: MockServer) -> None:
    """The control plane verifies signatures as well."""
    wrong: Any = {"service_name": "bedrock", "aws_secret_access_key": "x"}
    with client_of(server, **wrong) as plane, pytest.raises(ClientError, match="InvalidSignature"):
        await anyio.to_thread.run_sync(plane.list_foundation_models)
