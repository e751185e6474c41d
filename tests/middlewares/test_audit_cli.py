"""`lamella audit`: what it says, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from audit_disks import segments
from audit_logs import KEY, SEAL, ask, pipeline, public, signer, signing, written

from lamella.cli import main
from lamella.testing import run_virtual
from lamella_middlewares.audit import Heads


@attrs.frozen
class Done:
    """What a run of the program has come to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its standard output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@attrs.frozen
class Audited:
    """A log, with what the command line needs to look at it."""

    place: Path
    capsys: pytest.CaptureFixture[str] = attrs.field(repr=False)

    @property
    def log(self) -> str:
        return str(self.place / "log")

    @property
    def heads(self) -> str:
        return str(self.place / "heads")

    def __call__(self, *arguments: str) -> Done:
        code = main(["audit", *arguments])
        out, err = self.capsys.readouterr()
        return Done(code, out, err)


@pytest.fixture
def audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Audited:
    """A signed log of 6 calls, and the heads that were kept of it."""
    monkeypatch.setenv("AUDIT_KEY", KEY.reveal())
    monkeypatch.setenv("AUDIT_SEAL", SEAL.reveal())
    monkeypatch.setenv("AUDIT_SIGN", signing("a"))
    made = partial(written, tmp_path / "log", sink=tmp_path / "heads", sign_with=signer("a"))
    run_virtual(made)
    return Audited(tmp_path, capsys)


def test_a_good_log(audit: Audited) -> None:
    """It says how much there is, whose signature it has, and that it is good."""
    done = audit("verify", audit.log, "--head", audit.heads, "--key", public("a"))
    assert (done.code, done.err) == (0, "")
    first, *_, last = done.out.splitlines()
    assert "of 6 calls in 1 segments" in first
    assert public("a") in first
    assert last.startswith("good")


def test_keys_and_heads_are_given_in_any_order(audit: Audited) -> None:
    """Options take one value each, so that the directory may come last; a key may be in a file."""
    place = audit.place / "key"
    place.write_text(public("a"))
    done = audit("verify", "--key", str(place), "--head", audit.heads, audit.log)
    assert done.code == 0
    assert audit("verify", "--key", public("b"), "--key", public("a"), audit.log).code == 0


def test_a_bad_log(audit: Audited) -> None:
    """The first bad record is named: segment, number, byte; the exit code is 1."""
    (path,) = segments(Path(audit.log))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"user":"ada"', b'"user":"eve"', 3))
    done = audit("verify", audit.log)
    assert done.code == 1
    assert f"BAD   segment {path.stem}, record 1, byte " in done.out
    assert "not what was written" in done.out.splitlines()[-1]
    found = json.loads(audit("verify", audit.log, "--json").out)
    assert found["ok"] is False
    assert [found["problems"][0][name] for name in ("reason", "seq")] == ["chain", 1]


def test_a_head_shows_what_was_cut_off(audit: Audited) -> None:
    """Without it the rest is a good log, and what no head covers is told."""
    (path,) = segments(Path(audit.log))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    without = audit("verify", audit.log)
    assert without.code == 0
    assert "no head covers its records from 0 on" in without.out
    done = audit("verify", audit.log, "--head", audit.heads)
    assert done.code == 1
    assert "record 3" in done.out
    assert "cut off" in done.out


SEALED = ("--subject", "user:ada", "--seal-with", "env:AUDIT_SEAL")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("verify",), 2, "requires an argument. See lamella audit verify --help"),
        (("verify", "none"), 2, "There is no audit log in 'none'"),
        (("verify", "{log}", "--head", "none"), 2, "'none' cannot be read: No such file"),
        (("verify", "{log}", "--head", "{log}/log.id"), 2, "line 1 is no JSON object"),
        (("verify", "{log}", "--key", "nothing"), 2, "the public key of an audit log is none"),
        (("prove", "{log}"), 2, "There is no record to prove"),
        (("prove", "{log}", "--seq", "999"), 1, "no such record"),
        (("prove", "{log}", "--since", "{heads}", "--seq", "1"), 2, "goes with no other option"),
        (("prove", "{log}", "--since", "none"), 2, "'none' cannot be read"),
        (("check", "none"), 2, "'none' cannot be read"),
        (("export", "{log}", "--since", "yesterday"), 2, "--since 'yesterday' is no time"),
        (("export", "{log}", "--seal-with", "env:AUDIT_SEAL"), 2, "needs both"),
        (("export", "{log}", *SEALED[2:], "--subject-keys", "none"), 2, "There is no directory"),
        (("head", "none"), 2, "has no id"),
        (("head", "{log}", "--sign-with", "nothing"), 2, "by reference"),
        (("erase", "{log}", "--subject", "user:ada"), 2, "--seal-with"),
        (("erase", "{log}", *SEALED, "--subject-keys", "none"), 2, "There is no directory"),
        (("nothing",), 2, "See lamella audit --help"),
    ],
)
def test_wrong_command_lines_are_told(
    audit: Audited, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """In a sentence that names what is wrong; only what is wrong with a log has exit code 1."""
    done = audit(*[each.format(log=audit.log, heads=audit.heads) for each in arguments])
    assert done.code == code
    assert words in done.err


def test_names_in_a_log_steer_no_terminal(audit: Audited) -> None:
    """Whoever wrote them: no colours, no titles, and no second line that says that all is good."""
    (Path(audit.log) / "\x1b[2Jx\ngood.audit").write_bytes(b"")
    done = audit("verify", audit.log)
    assert done.code == 1
    assert "\x1b" not in done.out
    assert not [line for line in done.out.splitlines() if line.startswith("good")]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("verify", "{log}", "--head", "{heads}"), 0),
        (("prove", "{log}", "--seq", "1"), 0),
        (("export", "{log}", "--proofs"), 0),
        (("head", "{log}"), 0),
        (("head", "{log}", "--merge"), 0),
        (("verify", "{log}", "--key", "x"), 2),
        (("head", "{log}", "--sign-with", "env:AUDIT_SIGN"), 2),
    ],
)
def test_without_the_extra_everything_but_signatures_works(
    audit: Audited, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], code: int
) -> None:
    """Chain, tree and kept heads need no cryptography; what does need it says what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    find_spec = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "cryptography" else find_spec(name, *more),
    )
    done = audit(*[each.format(log=audit.log, heads=audit.heads) for each in command])
    assert done.code == code, done.err
    if code or command[0] == "verify":
        assert 'pip install "lamella[audit]"' in done.out + done.err


def test_a_proof_is_checked_without_the_log(audit: Audited) -> None:
    """`prove` prints it, `check` needs it and a head or the key."""
    call = audit("export", audit.log, "--kind", "intent").lines[2]["call"]
    proofs = audit("prove", audit.log, "--call", call)
    assert [json.loads(proof["record"])["kind"] for proof in proofs.lines] == ["intent", "outcome"]
    place = audit.place / "proofs"
    place.write_text(proofs.out)
    for path in Path(audit.log).iterdir():
        path.unlink()
    done = audit("check", str(place), "--key", public("a"))
    assert done.code == 0
    assert done.out.count("proved") == 2
    assert audit("check", str(place), "--key", public("b")).code == 1
    place.write_text(proofs.out.replace("ada", "eve"))
    done = audit("check", str(place), "--key", public("a"))
    assert done.code == 1
    assert "NOT proved" in done.out


def test_a_log_is_proved_to_go_on(audit: Audited) -> None:
    """From an older head to all that is there."""
    done = audit("prove", audit.log, "--since", audit.heads)
    place = audit.place / "proofs"
    place.write_text(done.out)
    assert audit("check", str(place), "--head", audit.heads).code == 0
    assert audit("check", str(place)).code == 1


def test_heads_are_printed(audit: Audited) -> None:
    """The newest in the log, or a new one over all of it, signed or not."""
    (newest,) = audit("head", audit.log).lines
    assert newest["size"] == max(
        json.loads(line)["size"] for line in Path(audit.heads).read_text().splitlines()
    )
    (merged,) = audit("head", audit.log, "--merge").lines
    assert merged["signature"] is None
    signed = audit("head", audit.log, "--sign-with", "env:AUDIT_SIGN")
    assert signed.lines[0]["key"] == public("a")
    place = audit.place / "merge"
    place.write_text(signed.out)
    assert audit("verify", audit.log, "--head", str(place), "--key", public("a")).code == 0
    (path,) = segments(Path(audit.log))
    path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
    assert audit("head", audit.log, "--merge").code == 1


def test_a_log_without_a_head_says_how_to_make_one(audit: Audited) -> None:
    """It is no failure of the log."""
    place = audit.place / "new"

    async def make() -> None:
        line = pipeline(place, heads=Heads(every=1000))
        await line.run(ask())
        line.layers[0]._used.clear()  # as if the process had been killed

    run_virtual(make)
    done = audit("head", str(place))
    assert done.code == 1
    assert "--merge" in done.err


def test_records_are_chosen(audit: Audited) -> None:
    """By whom they are about and when; with their proofs if asked."""
    assert len(audit("export", audit.log, "--user", "ada").lines) == 12
    assert audit("export", audit.log, "--user", "bob").out == ""
    assert audit("export", audit.log, "--tenant", "acme", "--until", "2020-01-01").out == ""
    found = audit("export", audit.log, "--kind", "outcome", "--kind", "intent", "--proofs").lines
    assert len(found) == 12
    assert {"proof", "segment", "seq"} <= found[0].keys()


def test_an_export_stops_at_the_first_bad_record(audit: Audited) -> None:
    """What is before it is given, and the exit code is 1."""
    (path,) = segments(Path(audit.log))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b"garbage\n", *lines[5:]]))
    done = audit("export", audit.log)
    assert done.code == 1
    assert len(done.lines) == 5
    assert "record 5" in done.err


def test_a_proof_of_what_comes_after_a_bad_record_is_refused(audit: Audited) -> None:
    """It says why there is none."""
    (path,) = segments(Path(audit.log))
    path.write_bytes(path.read_bytes().replace(b'"user":"ada"', b'"user":"eve"', 1))
    done = audit("prove", audit.log, "--seq", "9")
    assert (done.code, done.out) == (1, "")
    assert "record 1" in done.err


def test_a_subject_is_erased(audit: Audited) -> None:
    """Its content cannot be opened any more, the log says so, and still verifies."""
    place, keys = audit.place / "sealed", audit.place / "keys"

    async def make() -> None:
        options: dict[str, Any] = {"content": "sealed", "seal_with": SEAL, "subject_keys": keys}
        async with pipeline(place, **options) as line:
            await line.run(ask())

    run_virtual(make)
    opening = ("--seal-with", "env:AUDIT_SEAL", "--subject-keys", str(keys))
    read = ("export", str(place), "--kind", "intent", *opening)
    assert audit(*read).lines[0]["request"]["messages"]
    erasing = ("erase", str(place), "--tenant", "acme", *opening)
    assert audit(*erasing, "--subject", "user:bob").code == 1
    assert audit(*erasing, "--subject", "user:ada").code == 0
    assert audit(*read).lines[0]["request"] == "erased"
    notes = audit("export", str(place), "--kind", "note").lines
    assert sorted(note["keys"] for note in notes) == [0, 1]
    assert audit("verify", str(place)).code == 0


def test_what_is_printed_has_the_names_that_the_guide_gives(audit: Audited) -> None:
    """Programs read them: each field is in the guide's table, and there are no others."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ")]
    told = {name.strip(): set(re.findall(r"`(\w+)`", said)) for name, said in rows}
    (path,) = segments(Path(audit.log))
    (merged,) = audit("head", audit.log, "--merge").lines
    (proof,) = audit("prove", audit.log, "--seq", "1").lines
    since = audit("prove", audit.log, "--since", audit.heads).lines[0]
    path.write_bytes(path.read_bytes().replace(b'"ada"', b'"eve"'))
    report = json.loads(audit("verify", audit.log, "--json").out)
    assert report.keys() == told["report"]
    assert report["segments"][0].keys() == told["of `segments`"]
    assert report["problems"][0].keys() == told["of `problems`"]
    assert proof["head"].keys() | merged.keys() == told["head"]
    assert proof.keys() == told["proof"]
    assert since.keys() == told["proof of `--since`"]


def test_each_command_explains_itself(audit: Audited) -> None:
    """With a sentence for each of its options, and all of them are in the guide."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert "Usage: lamella audit COMMAND" in audit("--help").out
    for command in ("verify", "prove", "check", "export", "head", "erase"):
        done = audit(command, "--help")
        assert done.code == 0
        assert f"lamella audit {command}" in page
        options = [line for line in done.out.splitlines() if line.startswith("  --")]
        assert all(": " in line for line in options)
        named = [line.split()[0].rstrip(":") for line in options]
        assert [option for option in named if f"`{option}" not in page] == []
