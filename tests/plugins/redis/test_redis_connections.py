"""How the server is reached: URLs, secrets, loops, threads, cancellation, nodes that move."""

from __future__ import annotations

import itertools
import ssl
import threading
import traceback
from typing import Any

import anyio
import pytest
import trustme
from redis_peers import PATIENCE, Node, Proxy, Valkey, command

from lamella import (
    ConfigurationError,
    Dimension,
    Outcome,
    Pipeline,
    Preset,
    Secret,
    SecretError,
    StoreUnavailableError,
)
from lamella_redis import RedisLeases, _link, redis_leases

pytestmark = pytest.mark.anyio

_numbers = itertools.count()
LIMIT = Dimension(("a",), 1, 1000)


def at(url: str, **options: Any) -> RedisLeases:
    """A store of its own on the server there."""
    patient: dict[str, Any] = {"timeout": PATIENCE, "connect_timeout": PATIENCE}
    return RedisLeases(url, namespace=f"connections{next(_numbers)}", **(patient | options))


def at_port(port: int, **options: Any) -> RedisLeases:
    """A store of its own on a port of the loopback."""
    return at(f"redis://127.0.0.1:{port}", **options)


class TestAddress:
    async def test_a_url_comes_from_a_secret(
        self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reference is read when it is needed, and shows instead of the URL."""
        monkeypatch.setenv("TEST_REDIS_URL", valkey.tcp + "/3")
        store = at("env:TEST_REDIS_URL")
        assert await store.level(LIMIT) == 1000
        await command(store, "SET", "here", "x")
        other = at(valkey.tcp + "?db=3")
        assert await command(other, "GET", "here") == b"x"
        assert "Secret('env:TEST_REDIS_URL')" in repr(store)
        assert "127.0.0.1" not in repr(store)
        await store.aclose()
        await other.aclose()

    async def test_a_password_is_never_shown(self, own_valkey: Valkey) -> None:
        """It works from a secret, is refused in a plain URL, and stands in no message."""
        admin = at(own_valkey.url)
        await command(admin, "ACL SETUSER", "me", "on", ">p@ss", "~*", "&*", "+@all")
        await admin.aclose()
        address = f"127.0.0.1:{own_valkey.port}"
        right, wrong = f"redis://me:p%40ss@{address}", f"redis://me:wr0ng@{address}"
        store = at(Secret.of_value(right))  # type: ignore[arg-type]
        assert await store.level(LIMIT) == 1000
        await store.aclose()
        with pytest.raises(ConfigurationError, match="with a password in it") as refused:
            at(right)
        store = at(Secret.of_value(wrong))  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailableError, match="invalid username-password") as caught:
            await store.level(LIMIT)
        for shown in (repr(store), str(caught.value), str(refused.value)):
            assert "p%40ss" not in shown
            assert "wr0ng" not in shown
        assert caught.value.outcome is Outcome.NOT_SENT

    async def test_tls_verifies_certificate_and_name(self, valkey: Valkey) -> None:
        """`rediss://` accepts nobody but the host itself, vouched for by a known authority."""
        authority = trustme.CA()
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(tls)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with Proxy(valkey.port, tls) as proxy:
            known, named = f"rediss://localhost:{proxy.port}", f"rediss://127.0.0.1:{proxy.port}"
            store = at(known, ssl_context=trusting)
            assert await store.level(LIMIT) == 1000
            await store.aclose()
            for store in (at(known), at(named, ssl_context=trusting)):
                with pytest.raises(StoreUnavailableError, match=r"(?i)certificate"):
                    await store.level(LIMIT)

    async def test_a_client_lends_its_settings(self, valkey: Valkey) -> None:
        """A client of coredis says where to connect; its own connections are not used."""
        import coredis

        client = coredis.Redis.from_url(valkey.tcp, decode_responses=True)
        store = RedisLeases(client=client, namespace=f"client{next(_numbers)}")
        assert (await store.reserve("x", [LIMIT], ttl=60.0)).remaining == (999,)
        await store.aclose()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"url": "http://localhost"}, "begins with redis, rediss, unix"),
            ({"url": "localhost:6379"}, "scheme"),
            ({"url": ""}, "was given str"),
            ({}, "give a url"),
            ({"url": "redis://h", "namespace": "a{b}"}, "without braces"),
            ({"url": "redis://h", "timeout": 0}, "timeout=0"),
            ({"url": "redis://h:port"}, "no URL of a server"),
            ({"url": "redis://h:99999"}, "no URL of a server"),
            ({"url": "redis://[::1"}, "no URL of a server"),
            ({"url": "redis://h/name"}, "no URL of a server"),
        ],
    )
    async def test_wrong_options_are_refused(self, options: dict[str, Any], words: str) -> None:
        """A mistake is an error when the store is made."""
        with pytest.raises(ConfigurationError, match=words):
            RedisLeases(**options)

    async def test_a_missing_secret_is_no_outage(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is counted locally because a variable has been forgotten."""
        monkeypatch.delenv("NOT_THERE", raising=False)
        store = redis_leases("env:NOT_THERE", timeout=5.0)
        for _ in range(2):
            with pytest.raises(SecretError, match="NOT_THERE"):
                await store.reserve("x", [LIMIT], ttl=60.0)
        for wrong in (
            "localhost:6379",
            "redis://h:se_cret",
            "redis://[se_cret",
            "redis://h/se_cret",
        ):
            monkeypatch.setenv("NOT_THERE", wrong)
            with pytest.raises(ConfigurationError, match="no URL of a server") as caught:
                await store.reserve("x", [LIMIT], ttl=60.0)
            assert "se_cret" not in "".join(traceback.format_exception(caught.value))


class TestPresets:
    async def test_a_preset_names_it(self, valkey: Valkey) -> None:
        """The table of a file, and the same in a call; one store for all pipelines of a process."""
        table = {"use": "redis", "url": valkey.tcp, "outage": "deny", "processes": 4}
        table["timeout"] = 5.0  # a busy machine is no outage
        preset = Preset(extends="test", stores={"leases": table})
        one, other = Pipeline.preset(preset), Pipeline.preset("test", stores={"leases": table})
        store = one.ports.stores.leases
        assert other.ports.stores.leases is store
        assert (await store.reserve("preset", [LIMIT], ttl=1.0)).granted
        await one.aclose()
        await store.refund("preset")
        await other.aclose()
        assert await store.level(LIMIT) == 1000  # a closed store opens again
        await store.aclose()

    async def test_mistakes_are_named(self) -> None:
        """Each with its place."""
        leases = {"use": "redis", "url": "redis://h", "outage": "hope", "cluster": True}
        with pytest.raises(ConfigurationError) as caught:
            Pipeline.preset("test", stores={"leases": leases, "cache": "redis"})
        assert "stores.cache: is no store" in str(caught.value)
        with pytest.raises(ConfigurationError) as caught:
            Pipeline.preset("test", stores={"leases": leases, "blobs": leases | {"use": "none"}})
        assert "stores.leases.outage" in str(caught.value)
        assert "stores.leases.cluster" in str(caught.value)
        assert "no store 'none'" in str(caught.value)


class TestSharing:
    async def test_a_loop_has_one_connection(self, valkey: Valkey) -> None:
        """However many tasks ask at once, also for the first time."""
        async with Proxy(valkey.port) as proxy:
            store = at_port(proxy.port)
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(lambda n: store.reserve(n, [LIMIT], ttl=60.0), str(number))
            assert await store.level(LIMIT) == 950
            assert proxy.connections == 1
            await store.aclose()

    async def test_threads_and_loops_share_a_store(self, valkey: Valkey) -> None:
        """Each loop connects by itself; all count together."""
        store = at(valkey.url)
        granted: list[int] = []

        async def burst() -> None:
            for number in range(40):
                lease_id = f"{threading.get_ident()}-{number}"
                lease = await store.reserve(lease_id, [Dimension(("b",), 1, 100)], ttl=60.0)
                granted.append(lease.granted)

        def run(backend: str) -> None:
            anyio.run(burst, backend=backend)

        threads = [threading.Thread(target=run, args=(b,)) for b in ("asyncio", "trio") * 2]
        for thread in threads:
            thread.start()
        await burst()
        for thread in threads:
            await anyio.to_thread.run_sync(thread.join)
        assert (len(granted), sum(granted)) == (200, 100)
        await store.aclose()

    async def test_a_cancelled_command_takes_no_answer_from_others(
        self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who gives up leaves the connection in step: every answer reaches who asked for it."""
        monkeypatch.setattr(_link, "SUSPECT", PATIENCE)
        async with Proxy(valkey.port) as proxy:
            proxy.delay = 0.002
            store = at_port(proxy.port)
            limits = [Dimension((str(number),), number, 1000) for number in range(60)]

            async def ask(number: int) -> None:
                if number % 3:
                    lease = await store.reserve(str(number), [limits[number]], ttl=60.0)
                    assert lease.remaining == (1000 - number,)
                else:
                    with anyio.move_on_after(0.001 * (number % 7)):
                        await store.reserve(str(number), [limits[number]], ttl=60.0)

            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(ask, number)
            assert proxy.connections == 1
            await store.aclose()

    async def test_an_answer_that_nobody_awaits_is_no_silence(
        self, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Giving up on one command costs no connection if the server did answer it."""
        async with Proxy(valkey.port) as proxy:
            store = at_port(proxy.port)
            await store.level(LIMIT)
            proxy.delay = 0.05
            with anyio.move_on_after(0.01):
                await store.level(LIMIT)
            unanswered = store._link()._unanswered
            assert unanswered is not None
            monkeypatch.setattr(_link, "SUSPECT", 0.0)
            with anyio.fail_after(PATIENCE):
                while not unanswered[1].complete:  # noqa: ASYNC110 - the client tells nobody
                    await anyio.sleep(0.01)
            await store.level(LIMIT)
            assert proxy.connections == 1
            await store.aclose()

    async def test_any_text_is_a_key(self, valkey: Valkey) -> None:
        """What UTF-8 does not know disturbs neither its own command nor others under way."""
        store = at(valkey.url)
        names = ("\ud800", "\x00", "a b\r\n", "ü", "", "{x}", "\U0001f9c5")
        granted: list[bool] = []

        async def ask(name: str) -> None:
            lease_id, limit = f"{name}{next(_numbers)}", Dimension((name,), 1, 1, held=True)
            for _ in range(2):
                granted.append((await store.reserve(lease_id, [limit], ttl=60.0)).granted)
                granted.append(await store.settle(lease_id, [1]))
                lease_id += "again"

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(ask, name)
        assert granted == [True] * 4 * len(names)
        await store.aclose()

    async def test_closing_is_no_end(self, valkey: Valkey) -> None:
        """`aclose` closes the connection, twice does nothing, and a later command opens one."""
        async with Proxy(valkey.port) as proxy:
            store = at_port(proxy.port)
            await store.aclose()
            for count in (1, 2):
                assert await store.level(LIMIT) == 1000
                assert proxy.connections == count
                await store.aclose()
                await store.aclose()


class TestTrouble:
    async def test_scripts_are_sent_again(self, valkey: Valkey) -> None:
        """A server that has forgotten the scripts is given them anew."""
        store = at(valkey.url)
        await store.reserve("a", [LIMIT], ttl=60.0)
        await command(store, "SCRIPT FLUSH")
        assert await store.settle("a", [1])
        assert await store.level(LIMIT) == 999
        await store.aclose()

    async def test_a_lost_answer_is_asked_for_again(self, valkey: Valkey) -> None:
        """What was applied without being heard is not applied twice."""
        async with Proxy(valkey.port) as proxy:
            store = at_port(proxy.port)
            assert await store.level(LIMIT) == 1000
            proxy.lose = 1
            lease = await store.reserve("a", [LIMIT], ttl=60.0)
            assert (lease.granted, lease.remaining) == (True, (999,))
            proxy.lose = 1
            assert await store.settle("a", [5])
            proxy.lose = 1
            assert await store.level(LIMIT) == 995
            assert proxy.connections == 4
            await store.aclose()

    async def test_an_end_that_stays_unknown_is_said(self, valkey: Valkey) -> None:
        """If the second try is lost as well, the error says that it may have happened."""
        async with Proxy(valkey.port) as proxy:
            store = at_port(proxy.port, connect_timeout=0.3)
            await store.level(LIMIT)
            proxy.lose = 100
            with pytest.raises(StoreUnavailableError):
                await store.reserve("a", [LIMIT], ttl=60.0)
            proxy.lose = 0
            assert await store.level(LIMIT) == 999
            assert (await store.reserve("a", [LIMIT], ttl=60.0)).remaining == (999,)
            await store.aclose()

    async def test_keys_that_have_moved_are_followed(self, valkey: Valkey) -> None:
        """A cluster's node that has not the keys says who has; that one is asked from then on."""
        asked = 0

        def moved() -> str:
            nonlocal asked
            asked += 1
            return f"-MOVED 1234 127.0.0.1:{valkey.port}"

        async with Node(moved) as node:
            store = at_port(node.port)
            assert (await store.reserve("a", [LIMIT], ttl=60.0)).granted
            assert await store.settle("a", [1])
            assert await store.level(LIMIT) == 999
            assert asked == 1
            await store.aclose()

    async def test_keys_that_move_in_a_circle_are_an_error(self) -> None:
        """It ends after a few nodes."""
        port = 0

        async with Node(lambda: f"-MOVED 1 127.0.0.1:{port}") as node:
            port = node.port
            store = at_port(node.port)
            with pytest.raises(StoreUnavailableError, match="move from node to node"):
                await store.level(LIMIT)
            await store.aclose()

    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            ("-CLUSTERDOWN Hash slot not served", Outcome.NOT_SENT),
            ("-LOADING Valkey is loading the dataset in memory", Outcome.NOT_SENT),
            ("-OOM command not allowed when used memory > 'maxmemory'", Outcome.UNKNOWN),
            ("-ASK 1 127.0.0.1:1", Outcome.UNKNOWN),
            (":5", Outcome.UNKNOWN),
            ("_", Outcome.UNKNOWN),
            ("HTTP/1.1 400 Bad Request", Outcome.UNKNOWN),
        ],
    )
    async def test_a_refusal_is_an_error_of_ours(self, answer: str, outcome: Outcome) -> None:
        """What the server says is in it, and whether something may have happened."""
        async with Node(lambda: answer) as node:
            store = at_port(node.port)
            with pytest.raises(StoreUnavailableError) as caught:
                await store.level(LIMIT)
            assert caught.value.outcome is outcome
            await store.aclose()

    async def test_a_replica_is_no_store(self, valkey: Valkey, tmp_path: Any) -> None:
        """A server that may not write is connected to anew: another may have its name by then."""
        replica = Valkey(tmp_path, replicaof=f"127.0.0.1 {valkey.port}")
        try:
            store = at(replica.url)
            with pytest.raises(StoreUnavailableError, match=r"(?i)read only|READONLY") as caught:
                await store.reserve("a", [LIMIT], ttl=60.0)
            assert caught.value.outcome is Outcome.NOT_SENT
            await command(at(replica.url), "REPLICAOF", "NO", "ONE")
            assert (await store.reserve("a", [LIMIT], ttl=60.0)).granted
            await store.aclose()
        finally:
            replica.end()

    async def test_nobody_there(self, valkey: Valkey) -> None:
        """A refused connection is an error at once, which says where and why."""
        store = at("unix:///nowhere/at/all.sock")
        with pytest.raises(StoreUnavailableError, match=r"all\.sock") as caught:
            await store.level(LIMIT)
        assert caught.value.outcome is Outcome.NOT_SENT
        health = await store.health()
        assert health.well is False
        assert (await at(valkey.url).health()).well is True
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as refused:
            await at("redis://127.0.0.1:1").level(LIMIT)
        assert str(refused.value).count("connection attempts") == 1
