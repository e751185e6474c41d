"""A small server that speaks as much of Vault's API as the source of secrets uses."""

from __future__ import annotations

import json
from typing import Any

from lamella.testing import Reply
from lamella.testing._http_wire import Received

JSON = [("Content-Type", "application/json")]
VALUE = "sk-planted-0123456789abcdef"


def reply(status: int, body: object) -> Reply:
    """An answer as Vault gives them."""
    return Reply(status, JSON, json.dumps(body).encode())


class FakeVault:
    """Secrets of the KV engine, version 2, at `kv` and `team/kv`; tokens; two ways to log in.

    Attributes:
        state: A status that everything is answered with, and the errors in it; None for none.
        tokens: Which tokens hold.
        lease: Seconds for which a login's token holds.
        renewable: Whether it can be prolonged.
        forbidden: A path that no policy allows.
        received: The requests.
    """

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], list[dict[str, Any] | None]] = {
            ("kv", "openai"): [{"api_key": "sk-version-one"}, {"api_key": VALUE, "port": 5}],
            ("kv", "one/deep"): [{"only": "the only value"}],
            ("kv", "gone"): [{"api_key": "sk-version-one"}, None],
            ("team/kv", "a b"): [{"odd #?% name": "an odd value"}],
        }
        self.state: tuple[int, list[str]] | None = None
        self.tokens = {"s.root"}
        self.namespace: str | None = None
        self.secret_id = "the secret id"
        self.jwt = "a.service.account"
        self.lease = 3600
        self.renewable = True
        self.forbidden = ""
        self.logins = 0
        self.renewals = 0
        self.received: list[Received] = []

    async def __call__(self, received: Received) -> Reply:
        self.received.append(received)
        if self.state is not None:
            status, errors = self.state
            return reply(status, {"errors": errors})
        if received.headers.get("x-vault-request") != "true":
            return reply(400, {"errors": ["missing request header"]})
        if received.headers.get("x-vault-namespace") != self.namespace:
            return reply(403, {"errors": ["permission denied"]})
        if received.path.endswith("/login"):
            return self._login(received)
        allowed = received.path != self.forbidden
        if received.headers.get("x-vault-token") not in self.tokens or not allowed:
            return reply(403, {"errors": [f"permission denied for {VALUE}"]})
        if received.path == "/v1/auth/token/renew-self":
            return self._renew(received)
        return self._read(received)

    def _login(self, received: Received) -> Reply:
        asked = received.json()
        known = {
            "/v1/auth/approle/login": {"role_id": "role", "secret_id": self.secret_id},
            "/v1/auth/k8s/login": {"role": "app", "jwt": self.jwt},
            "/v1/auth/kubernetes/login": {"role": "app", "jwt": self.jwt},
        }
        if received.method != "POST" or asked != known.get(received.path):
            return reply(400, {"errors": [f"invalid role or secret ID {json.dumps(asked)}"]})
        self.logins += 1
        token = f"s.login-{self.logins}"
        self.tokens.add(token)
        return self._auth(token, self.lease)

    def _renew(self, received: Received) -> Reply:
        if not self.renewable:
            return reply(400, {"errors": ["lease is not renewable"]})
        self.renewals += 1
        return self._auth(received.headers["x-vault-token"], self.lease)

    def _auth(self, token: str, lease: int) -> Reply:
        found = {"client_token": token, "lease_duration": lease, "renewable": self.renewable}
        return reply(200, {"auth": found, "data": None})

    def _read(self, received: Received) -> Reply:
        mount, _, path = received.path.removeprefix("/v1/").partition("/data/")
        versions = self.secrets.get((mount, path))
        number = int(received.query.get("version", 0)) or len(versions or ())
        if received.method != "GET" or versions is None or number > len(versions):
            return reply(404, {"errors": []})
        fields = versions[number - 1]
        metadata = {"version": number, "deletion_time": "", "destroyed": False}
        if fields is None:
            metadata["deletion_time"] = "2026-11-01T00:00:00Z"
            return reply(404, {"data": {"data": None, "metadata": metadata}})
        return reply(200, {"data": {"data": fields, "metadata": metadata}})
