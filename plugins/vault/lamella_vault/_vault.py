"""Reading secrets of the KV engine, version 2, over the library's own HTTP port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import anyio
import attrs
import msgspec

from lamella import ConfigurationError, LamellaError, SecretError
from lamella._closing import CLEANUP_SECONDS
from lamella._options import is_number, span
from lamella._ports import default_ports
from lamella.transports._addresses import checked_address
from lamella.transports._http import HTTPClient, HTTPReply, HTTPRequest
from lamella.transports._httpx_client import PooledHTTPClient
from lamella.transports._stream_source import read_all
from lamella_vault import _errors
from lamella_vault._auth import Auth, Login, Token, from_environment, nobody, system_environment
from lamella_vault._reference import Reference, parsed
from lamella_vault._server import TLS, KnownTokens, Server
from lamella_vault._tokens import LoginToken, Tokens

if TYPE_CHECKING:
    from lamella.transports._dialect import Headers

DEFAULT_ADDRESS: Final = "https://127.0.0.1:8200"


def _is_address(_: object, option: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        checked_address(value, f"Vault({option.name}=...)", DEFAULT_ADDRESS)


@attrs.frozen(kw_only=True, eq=False)
class Vault:
    """A source of secrets; what is not given comes from the variables of the `vault` program.

    Called with what stands behind `vault:`. Give another one a name of its own with
    `lamella.registry().add(secret_sources={"vault-eu": Vault(address=...)})`.

    Attributes:
        address: Where it is. None is `VAULT_AGENT_ADDR`, `VAULT_ADDR`, or this machine.
        namespace: The namespace; None is `VAULT_NAMESPACE`, or none.
        auth: Who asks: a `Token`, `AppRole` or `Kubernetes`. None finds out by the environment.
        timeout: Seconds for one request, connecting included; above 0.
        client: Sends requests, in place of a client made as `VAULT_CACERT`, `VAULT_CLIENT_CERT`,
            `VAULT_CLIENT_KEY` and `VAULT_SKIP_VERIFY` say.
    """

    address: str | None = attrs.field(default=None, validator=_is_address)
    namespace: str | None = None
    auth: Auth | None = None
    timeout: float = attrs.field(default=10.0, validator=span)
    client: HTTPClient | None = None
    _known: KnownTokens = attrs.field(init=False, factory=KnownTokens, repr=False)

    async def __call__(self, reference: str, /) -> str:
        """The value of a field.

        Args:
            reference: What stands behind `vault:`.

        Raises:
            SecretError: If it cannot be had. Neither values nor Vault's own words are in it.
        """
        wanted = parsed(reference)
        server, auth = self._server(), self._auth()
        if auth is None and not self._is_agent():
            raise nobody()
        if auth is None or isinstance(auth, Token):
            token = None if auth is None else (await auth.token.fetch()).strip()
            status, body = await self._get(server, wanted, token)
            return _value(status, body, wanted)
        tokens = self._known.get((server, auth), lambda: self._tokens(server, auth))
        token = await tokens.token()
        status, body = await self._get(server, wanted, token)
        if status == 403 and tokens.may_exchange(token):
            # A policy, or a token that was revoked: another one will tell.
            status, body = await self._get(server, wanted, await tokens.token(refused=token))
        return _value(status, body, wanted)

    # --- settings ----------------------------------------------------------------------------

    def _server(self) -> Server:
        environ = system_environment()
        found = environ.get("VAULT_AGENT_ADDR") or environ.get("VAULT_ADDR") or DEFAULT_ADDRESS
        address = self.address or checked_address(found, "VAULT_ADDR", DEFAULT_ADDRESS)
        tls = TLS(
            environ.get("VAULT_CACERT") or environ.get("VAULT_CAPATH") or None,
            environ.get("VAULT_CLIENT_CERT") or None,
            environ.get("VAULT_CLIENT_KEY") or None,
            environ.get("VAULT_SKIP_VERIFY", "").lower() in {"1", "t", "true"},
        )
        namespace = self.namespace or environ.get("VAULT_NAMESPACE") or None
        return Server(address.rstrip("/"), namespace, tls, self._is_agent())

    def _is_agent(self) -> bool:
        """Whether it is a Vault Agent or Proxy, which may add a token of its own."""
        return self.address is None and bool(system_environment().get("VAULT_AGENT_ADDR"))

    def _auth(self) -> Auth | None:
        return self.auth or from_environment(system_environment())

    # --- asking ------------------------------------------------------------------------------

    async def _get(self, server: Server, wanted: Reference, token: str | None) -> tuple[int, bytes]:
        return await self._send(server, "GET", wanted.target, server.headers(token, {}))

    async def _send(
        self, server: Server, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> tuple[int, bytes]:
        draft = HTTPRequest(
            method=method,
            url=server.address + target,
            headers=headers,
            body=body,
            provider="Vault",
            connect=self.timeout,
            write=self.timeout,
        )
        problem: SecretError | None = None
        with anyio.move_on_after(self.timeout):
            try:
                return await self._answer(server.tls, draft)
            except ConfigurationError:  # a file of certificates
                raise
            except LamellaError as error:
                problem = _errors.unreachable(error, server.address)
        raise problem or _errors.timed_out(server.address, self.timeout)

    async def _answer(self, tls: TLS, draft: HTTPRequest) -> tuple[int, bytes]:
        # Seconds to minutes pass between two requests: no connection is worth keeping.
        own = self.client is None
        client = self.client or PooledHTTPClient(await default_ports().thread(tls.options))
        reply: HTTPReply | None = None
        try:
            reply = await client.send(draft)
            return reply.status, await read_all(reply)
        finally:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                if reply is not None:
                    await reply.aclose()
                if own:
                    await client.aclose()

    def _tokens(self, server: Server, login: Login) -> Tokens:
        async def get(held: LoginToken | None) -> LoginToken:
            if held is not None and held.renewable:
                renewed = await self._renewed(server, held)
                if renewed is not None:
                    return renewed
            return await self._logged_in(server, login)

        return Tokens(get)

    async def _logged_in(self, server: Server, login: Login) -> LoginToken:
        what = f"a login at auth/{login.mount}"
        headers = server.headers(None, {"Content-Type": "application/json"})
        target = f"/v1/auth/{quote(login.mount.strip('/'))}/login"
        proof = msgspec.json.encode(await login.proof())
        now = default_ports().monotonic()
        status, body = await self._send(server, "POST", target, headers, proof)
        token = _token(body, now) if status == 200 else None
        if token is not None:
            return token
        if status == 200:
            raise _errors.nonsense(what)
        if status in {400, 403}:
            hint = "Look at the role, at its secret id or service account, and at the mount."
            msg = f"Vault refused {what}."
            raise SecretError(msg, hint=hint, code="forbidden", status=status)
        raise _errors.answered(status, body, what)

    async def _renewed(self, server: Server, held: LoginToken) -> LoginToken | None:
        """The same token for longer; None if Vault does not want that, or not for long."""
        headers = server.headers(held.value, {"Content-Type": "application/json"})
        now = default_ports().monotonic()
        try:
            status, body = await self._send(
                server, "POST", "/v1/auth/token/renew-self", headers, b"{}"
            )
        except SecretError:
            return None  # the login that follows will say what is wrong
        token = _token(body, now) if status == 200 else None
        # Near its last end a token is given less and less.
        return None if token is None or token.seconds < held.seconds / 2 else token


def _token(body: bytes, now: float) -> LoginToken | None:
    found = _errors.object_in(body, "auth")
    if found is None:
        return None
    value, seconds = found.get("client_token"), found.get("lease_duration")
    if not isinstance(value, str) or not value or not is_number(seconds):
        return None
    seconds = max(float(seconds or 0), 0.0)
    return LoginToken(value, seconds, renewable=found.get("renewable") is True, now=now)


def _value(status: int, body: bytes, wanted: Reference) -> str:
    """The field's value in an answer.

    Raises:
        SecretError: If there is none.
    """
    found, problem = _read(status, body, wanted)
    if problem is not None:
        del body, found  # what shows tracebacks with their variables shows no secret
        raise problem
    return found


def _read(status: int, body: bytes, wanted: Reference) -> tuple[str, SecretError | None]:
    what = f"secret {wanted.path!r} in {wanted.mount!r}"
    if wanted.version is not None:
        what = f"version {wanted.version} of {what}"
    if status == 404:
        return "", _errors.not_found(body, what)
    if status != 200:
        return "", _errors.answered(status, body, f"the {what}")
    fields = _errors.object_in(body, "data", "data")
    if fields is None:
        return "", _errors.nonsense(f"for the {what}")
    name = wanted.field
    if name is None and len(fields) == 1:
        name = next(iter(fields))
    if name is None:
        msg = f"The {what} has {len(fields)} fields, and the reference names none."
        return "", SecretError(msg, hint=f"Write vault:{wanted.mount}/{wanted.path}#FIELD.")
    value = fields.get(name)
    if isinstance(value, str) and value:
        return value, None
    state = "is no text, or empty" if name in fields else "is not there"
    named = f"The field {wanted.field!r}" if wanted.field else "The only field"
    hint = f"See its fields with `vault kv get -mount={wanted.mount} {wanted.path}`."
    return "", SecretError(f"{named} of the {what} {state}.", hint=hint)


vault = Vault()
"""The source of `vault:...`: all as the environment says."""
