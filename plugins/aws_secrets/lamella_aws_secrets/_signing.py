"""Who asks, where, and the signature: botocore's part, which may block and runs in a thread."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs
import msgspec

from lamella import LamellaError, SecretError
from lamella._fork_locks import fork_safe_lock
from lamella._ports import default_ports
from lamella._revealed import remember
from lamella.transports._addresses import checked_address
from lamella.transports._headers import encoded_headers
from lamella.transports._http import HTTPRequest

if TYPE_CHECKING:
    from lamella_aws_secrets._reference import Reference

SERVICE: Final = "secretsmanager"
_ADDRESS_VARIABLES: Final = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL")
_EXAMPLE: Final = "https://secretsmanager.eu-west-1.amazonaws.com"
_CREDENTIALS_HINT: Final = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role; "
    "`aws sts get-caller-identity` shows who this program is."
)


@attrs.frozen
class Place:
    """Where requests of one source go.

    Attributes:
        region: The region; None leaves it to the reference, the environment and the profile.
        profile: The profile of the shared files; None leaves it to botocore.
        endpoint: The address; None leaves it to the environment and the region.
    """

    region: str | None
    profile: str | None
    endpoint: str | None


class Signer:
    """Makes signed requests. Thread-safe; its credentials are kept, and renewed by botocore.

    Args:
        place: Where they go.
    """

    __slots__ = ("_credentials", "_lock", "_place")

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = fork_safe_lock()
        self._credentials: Any = None

    def signed(self, wanted: Reference, timeout: float) -> HTTPRequest:
        """The request for a secret. Reads files and may ask a metadata service.

        Raises:
            SecretError: If there are no credentials, or no region.
        """
        credentials, region, url = self._prepared(wanted)
        body = msgspec.json.encode(wanted.body)
        headers = _signature(credentials, region, url, body)
        return HTTPRequest(
            method="POST",
            url=url,
            headers=encoded_headers(headers),
            body=body,
            provider="AWS Secrets Manager",
            connect=timeout,
            write=timeout,
        )

    def forget(self) -> None:
        """Look for credentials anew the next time."""
        with self._lock:
            self._credentials = None

    def _prepared(self, wanted: Reference) -> tuple[Any, str, str]:
        try:
            frozen, region, url = self._found(wanted)
        except LamellaError:
            raise
        except Exception as error:  # noqa: BLE001 - botocore raises whatever its sources do
            frozen, region, url, failure = None, "", "", type(error).__name__
        else:
            failure = ""
        if failure:
            # Raised out here, without a context: its text may hold what a helper program wrote.
            msg = "Credentials for AWS Secrets Manager could not be had: botocore raised "
            msg += f"{failure}."
            raise SecretError(msg, hint=_CREDENTIALS_HINT, elsewhere=True)
        if frozen is None or not frozen.access_key:
            msg = "There are no credentials for AWS Secrets Manager."
            raise SecretError(msg, hint=_CREDENTIALS_HINT, elsewhere=True)
        remember(frozen.secret_key)
        if frozen.token:
            remember(frozen.token)
        return frozen, region, url

    def _found(self, wanted: Reference) -> tuple[Any, str, str]:
        # A session of one's own each time: they are no good for two threads at once.
        session = import_module("botocore.session").Session(profile=self._place.profile)
        region = self._region(session, wanted)
        url = self._url(session, region)
        found = self._credentials
        if found is None:
            found = session.get_credentials()
            with self._lock:
                self._credentials = found
        return None if found is None else found.get_frozen_credentials(), region, url

    def _region(self, session: Any, wanted: Reference) -> str:
        found = wanted.region or self._place.region or os.environ.get("AWS_REGION")
        found = found or session.get_config_variable("region")
        if not found:
            msg = "The region of AWS Secrets Manager is not known."
            raise SecretError(msg, hint="Set AWS_REGION, or refer to the secret by its ARN.")
        return str(found)

    def _url(self, session: Any, region: str) -> str:
        given = self._place.endpoint or _address_named()
        if given is not None:
            return given if urlsplit(given).path else f"{given}/"
        fips = bool(session.get_config_variable("use_fips_endpoint"))
        dual = bool(session.get_config_variable("use_dualstack_endpoint"))
        for partition in session.get_data("partitions")["partitions"]:
            if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
                outputs: Mapping[str, str] = partition["outputs"]
                suffix = outputs["dualStackDnsSuffix" if dual else "dnsSuffix"]
                return f"https://{SERVICE}{'-fips' if fips else ''}.{region}.{suffix}/"
        msg = f"{region!r} is no region of AWS that is known."
        raise SecretError(msg, hint="Look at AWS_REGION, or give the endpoint.")


def _address_named() -> str | None:
    """The address that the environment names."""
    for name in _ADDRESS_VARIABLES:
        if os.environ.get(name):
            return checked_address(os.environ[name], name, _EXAMPLE)
    return None


def _signature(credentials: Any, region: str, url: str, body: bytes) -> dict[str, str]:
    stamp = datetime.fromtimestamp(default_ports().wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"{SERVICE}.GetSecretValue",
        "X-Amz-Date": stamp,
    }
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    asked: Any = import_module("botocore.awsrequest").AWSRequest(
        method="POST", url=url, headers=signed, data=body
    )
    asked.context["timestamp"] = stamp
    auth: Any = import_module("botocore.auth").SigV4Auth(credentials, SERVICE, region)
    words = auth.string_to_sign(asked, auth.canonical_request(asked))
    names = auth.signed_headers(auth.headers_to_sign(asked))
    proof = auth.signature(words, asked)
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(asked)}, SignedHeaders={names}, Signature={proof}"
    )
    return signed
