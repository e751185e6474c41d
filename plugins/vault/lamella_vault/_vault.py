"""Reading secrets of the KV engine, version 2, over the library's own HTTP port."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import msgspec

from lamella import LamellaError, SecretError
from lamella._fork_locks import fork_safe_lock
from lamella._options import is_number
from lamella._ports import default_ports
from lamella.transports._addresses import checked_address
from lamella.transports._headers import encoded_headers
from lamella.transports._http import HTTPClient, HTTPOptions, HTTPRequest
from lamella.transports._stream_source import read_all
from lamella_vault import _errors
from lamella_vault._auth import Auth, Login, Token, from_environment, nobody, system_environment
from lamella_vault._reference import Reference, parsed
from lamella_vault._tokens import LoginToken, Tokens

if TYPE_CHECKING:
    from lamella.transports._dialect import Headers

DEFAULT_ADDRESS: Final = "https://127.0.0.1:8200"
_MAX_BYTES: Final = 4 << 20


@attrs.frozen
class _TLS:
    """What decides how Vault's certificate is checked."""

    authorities: str | None
    certificate: str | None
    key: str | None
    unchecked: bool

    def options(self) -> HTTPOptions:
        """Reads files, if there is a client certificate: call it in a thread."""
        verify: bool | str | ssl.SSLContext = False if self.unchecked else self.authorities or True
        if self.certificate is not None and self.key is not None and not self.unchecked:
            try:
                verify = ssl.create_default_context(cafile=self.authorities)
                verify.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                msg = f"The client certificate for Vault cannot be used ({type(error).__name__})."
                hint = "VAULT_CLIENT_CERT, VAULT_CLIENT_KEY and VAULT_CACERT name PEM files."
                raise SecretError(msg, hint=hint) from None
        return HTTPOptions(verify=verify, max_body_bytes=_MAX_BYTES, max_idle=2)


@attrs.frozen
class _Server:
    """Where one asking goes."""

    address: str
    namespace: str | None
    tls: _TLS
    agent: bool

    def headers(self, token: str | None, more: Mapping[str, str]) -> Headers:
        found = {"X-Vault-Request": "true", "Accept": "application/json", **more}
        if self.namespace:
            found["X-Vault-Namespace"] = self.namespace
        if token is not None:
            found["X-Vault-Token"] = token
        return encoded_headers(found)


def _is_span(_: object, option: attrs.Attribute[Any], value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise SecretError(f"Vault({option.name}={value!r}) is no number of seconds above 0.")


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
    timeout: float = attrs.field(default=10.0, validator=_is_span)
    client: HTTPClient | None = None
    _state: _State = attrs.field(init=False, factory=lambda: _State(), repr=False)

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
        tokens = self._state.tokens((server, auth), lambda: self._tokens(server, auth))
        token = await tokens.token()
        status, body = await self._get(server, wanted, token)
        if status == 403:  # a policy, or a token that was revoked: another one will tell
            tokens.forget(token)
            status, body = await self._get(server, wanted, await tokens.token())
        return _value(status, body, wanted)

    async def aclose(self) -> None:
        """Close its connections; it can be used again. Those of `client` are the caller's."""
        await self._state.aclose()

    # --- settings ----------------------------------------------------------------------------

    def _server(self) -> _Server:
        environ = system_environment()
        found = environ.get("VAULT_AGENT_ADDR") or environ.get("VAULT_ADDR") or DEFAULT_ADDRESS
        address = self.address or checked_address(found, "VAULT_ADDR", DEFAULT_ADDRESS)
        tls = _TLS(
            environ.get("VAULT_CACERT") or environ.get("VAULT_CAPATH") or None,
            environ.get("VAULT_CLIENT_CERT") or None,
            environ.get("VAULT_CLIENT_KEY") or None,
            environ.get("VAULT_SKIP_VERIFY", "").lower() in {"1", "t", "true"},
        )
        namespace = self.namespace or environ.get("VAULT_NAMESPACE") or None
        return _Server(address.rstrip("/"), namespace, tls, self._is_agent())

    def _is_agent(self) -> bool:
        """Whether it is a Vault Agent or Proxy, which may add a token of its own."""
        return self.address is None and bool(system_environment().get("VAULT_AGENT_ADDR"))

    def _auth(self) -> Auth | None:
        return self.auth or from_environment(system_environment())

    # --- asking ------------------------------------------------------------------------------

    async def _get(
        self, server: _Server, wanted: Reference, token: str | None
    ) -> tuple[int, bytes]:
        return await self._send(server, "GET", wanted.target, server.headers(token, {}))

    async def _send(
        self, server: _Server, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> tuple[int, bytes]:
        client = self.client or await self._state.client(server.tls)
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
                reply = await client.send(draft)
                try:
                    return reply.status, await read_all(reply)
                finally:
                    await reply.aclose()
            except LamellaError as error:
                problem = _errors.unreachable(error, server.address)
        raise problem or _errors.timed_out(server.address, self.timeout)

    def _tokens(self, server: _Server, login: Login) -> Tokens:
        async def get(held: LoginToken | None) -> LoginToken:
            if held is not None and held.renewable:
                renewed = await self._renewed(server, held)
                if renewed is not None:
                    return renewed
            return await self._logged_in(server, login)

        return Tokens(get)

    async def _logged_in(self, server: _Server, login: Login) -> LoginToken:
        what = f"a login at auth/{login.mount}"
        headers = server.headers(None, {"Content-Type": "application/json"})
        target = f"/v1/auth/{login.mount}/login"
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

    async def _renewed(self, server: _Server, held: LoginToken) -> LoginToken | None:
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


class _State:
    """The connections and tokens of one source. Thread-safe."""

    __slots__ = ("_clients", "_lock", "_tokens")

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._clients: dict[_TLS, HTTPClient] = {}
        self._tokens: tuple[object, Tokens] | None = None

    def tokens(self, key: object, make: Callable[[], Tokens]) -> Tokens:
        """The tokens of a way to log in; those of another are forgotten."""
        held = self._tokens
        if held is None or held[0] != key:
            new = key, make()  # its lock is made outside of ours
            with self._lock:
                held = self._tokens
                if held is None or held[0] != key:
                    held = self._tokens = new
        return held[1]

    async def client(self, tls: _TLS) -> HTTPClient:
        """The client for some TLS settings."""
        found = self._clients.get(tls)
        if found is None:
            from lamella.transports._httpx_client import PooledHTTPClient

            made = PooledHTTPClient(await default_ports().thread(tls.options))
            with self._lock:
                found = self._clients.setdefault(tls, made)
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()


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
    return "", SecretError(f"{named} of the {what} {state}.", hint=hint, code=None)


vault = Vault()
"""The source of `vault:...`: all as the environment says."""
