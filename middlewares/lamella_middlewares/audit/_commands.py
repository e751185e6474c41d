"""`lamella audit`: verify a log, prove a record, export records, print a head, erase a subject.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the log, or the proof, is not what it should be |
| 2 | the command line is wrong, or there is no such log or file |
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lamella import AuditError, ConfigurationError, Secret
from lamella._ports import default_ports

if TYPE_CHECKING:
    from lamella_middlewares.audit._envelope import Envelopes
    from lamella_middlewares.audit._scan import Problem
    from lamella_middlewares.audit._verify import Report

T = TypeVar("T")

GOOD: Final = 0
BAD: Final = 1


def verify(
    directory: str,
    *,
    head: Sequence[str] = (),
    key: Sequence[str] = (),
    without: Sequence[str] = (),
    json: bool = False,
) -> int:
    """Check that a log is what was written; name the first bad record of each file.

    Args:
        directory: The log's directory.
        head: A file with heads that were kept elsewhere, of whatever age. May be given again.
        key: The public key of the heads, as PEM or base64, or a file with it. May be given again.
        without: The id of a file that was taken away on purpose. May be given again.
        json: Print a JSON object.
    """
    from lamella_middlewares.audit._verify import verify as run

    report = run(directory, heads=_heads(head), keys=_keys(key), without=without)
    if json:
        _show(report.to_dict())
    else:
        _tell(report)
    return GOOD if report.ok else BAD


def prove(
    directory: str,
    *,
    call: str | None = None,
    segment: str | None = None,
    seq: int | None = None,
    head: Sequence[str] = (),
    since: str | None = None,
) -> int:
    """Print proofs that records are in the log, or that it still has what an older head covers.

    Args:
        directory: The log's directory.
        call: The records of this call.
        segment: The file of the record that --seq numbers.
        seq: The number of the record.
        head: A file with heads that were kept elsewhere, to prove to. May be given again.
        since: A file with an older head: prove that the log still begins with what it covers.
    """
    from lamella_middlewares.audit._prove import consistency
    from lamella_middlewares.audit._prove import prove as run

    if since is not None:
        if head or any(one is not None for one in (call, segment, seq)):
            msg = "--since is about the whole log, and goes with no other option."
            raise ConfigurationError(msg, hint="Leave the others out, or prove a record by itself.")
        for old in _heads([since]):
            for proof in consistency(directory, old):
                _line(proof)
        return GOOD
    if call is None and seq is None:
        msg = "There is no record to prove."
        raise ConfigurationError(msg, hint="Give --call ID, or --seq N (and --segment ID).")

    def wanted(name: str, record: Mapping[str, Any]) -> bool:
        return (
            (call is None or record.get("call") == call)
            and (segment is None or name == segment)
            and (seq is None or record["seq"] == seq)
        )

    problems: list[Problem] = []
    proofs = run(directory, wanted, heads=_heads(head), problems=problems)
    for proof in proofs:
        _line(proof)
    for problem in problems:
        _say(f"BAD  {problem}. What comes after it cannot be proved.")
    if not proofs:
        _say("There is no such record in the log.")
    return GOOD if proofs and not problems else BAD


def check(proof: str, *, head: Sequence[str] = (), key: Sequence[str] = ()) -> int:
    """Check proofs that `prove` printed, without the log.

    Args:
        proof: The file with the proofs, one to a line.
        head: A file with heads that are known to be right. May be given again.
        key: The public key of the heads, as PEM or base64, or a file with it. May be given again.
    """
    from lamella_middlewares.audit._prove import check_proof

    heads, keys = _heads(head), _keys(key)
    code = GOOD
    for one in _heads([proof]):
        wrong = check_proof(one, heads=heads, keys=keys)
        place = f"record {one.get('seq')} of segment {one.get('segment')}"
        if "old_size" in one:
            place = f"segment {one.get('segment')} since record {one.get('old_size')}"
        _out(f"{place}: {'proved' if wrong is None else f'NOT proved: {wrong}'}")
        code = code if wrong is None else BAD
    return code


async def export(  # noqa: PLR0913 - each is an option of the command
    directory: str,
    *,
    tenant: str | None = None,
    user: str | None = None,
    session: str | None = None,
    call: str | None = None,
    kind: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    proofs: bool = False,
    key_secret: str | None = None,
    seal_with: str | None = None,
    subject_keys: str | None = None,
) -> int:
    """Print records as JSON lines, in the order of the log.

    Args:
        directory: The log's directory.
        tenant: Only records of this tenant.
        user: Only records of this user.
        session: Only records of this session.
        call: Only records of this call.
        kind: Only records of this kind, such as intent or outcome. May be given again.
        since: Only records from this time on: 2026-05-01, or 2026-05-01T12:00:00+02:00.
        until: Only records before this time.
        proofs: Add to each the proof that it is in the log.
        key_secret: The digests' secret, such as env:AUDIT_KEY: finds names written as digests.
        seal_with: The secret that subjects' keys are wrapped with: opens what is sealed.
        subject_keys: The directory of those keys.
    """
    from lamella_middlewares.audit._export import Choice, Exported
    from lamella_middlewares.audit._export import export as run
    from lamella_middlewares.audit._keys import DigestKey

    secret = None if key_secret is None else await Secret(key_secret).fetch()
    choice = Choice(
        tenant=tenant,
        user=user,
        session=session,
        call=call,
        kinds=frozenset(kind),
        since=_instant("--since", since),
        until=_instant("--until", until),
        key=None if secret is None else DigestKey.of(secret),
    )
    told = Exported()
    envelopes = await _envelopes(seal_with, subject_keys)
    ports = default_ports()
    async for record in run(
        directory, choice, ports, proofs=proofs, envelopes=envelopes, told=told
    ):
        _line(record)
    for problem in told.problems:
        _say(f"BAD  {problem}. What comes after it is not exported.")
    return BAD if told.problems else GOOD


async def head(directory: str, *, sign_with: str | None = None, merge: bool = False) -> int:
    """Print a head of all that is in the log now, to be kept elsewhere.

    Without --sign-with and --merge it is the newest signed head of each file, as the log has it.

    Args:
        directory: The log's directory.
        sign_with: The secret of the key that signs a new one, such as file:audit.pem.
        merge: Make a new one without a signature.
    """
    from lamella_middlewares.audit._keys import Signer, need_cryptography
    from lamella_middlewares.audit._payload import micros
    from lamella_middlewares.audit._prove import head_of

    signer = None
    if sign_with is not None:
        need_cryptography("--sign-with")
        signer = Signer.of(await Secret(sign_with).fetch())
    ports = default_ports()
    made, scans = await ports.thread(
        lambda: head_of(directory, at=micros(ports.wall()), signer=signer)
    )
    bad = [one.problem for one in scans if one.problem is not None]
    for problem in bad:
        _say(f"BAD  {problem}. There is no head over it.")
    if bad:
        return BAD
    if signer is not None or merge:
        _line(made)
        return GOOD
    newest = [one.heads[-1].head for one in scans if one.heads]
    if not newest:
        _say("The log has no head yet. Make one: --merge, or --sign-with SECRET.")
        return BAD
    for each in newest:
        _line(each)
    return GOOD


async def erase(
    directory: str,
    *,
    subject: str,
    seal_with: str,
    subject_keys: str,
    tenant: str | None = None,
) -> int:
    """Destroy a subject's keys, so that nobody can read its sealed content again; for ever.

    The log itself still verifies. That keys were destroyed is written into it.

    Args:
        directory: The log's directory.
        subject: Whose: user:NAME or session:NAME, or what Audit(subjects=...) gives.
        seal_with: The secret that subjects' keys are wrapped with, such as env:AUDIT_SEAL.
        subject_keys: The directory of those keys.
        tenant: The subject's tenant; without it, the one that has no name.
    """
    from lamella_middlewares.audit._heads import known_log_id
    from lamella_middlewares.audit._log import AuditLog

    if known_log_id(Path(directory)) is None:
        msg = f"There is no audit log in {directory!r}."
        raise ConfigurationError(msg, hint="Give the directory that Audit(directory=...) names.")
    envelopes = await _envelopes(seal_with, subject_keys)
    assert envelopes is not None  # noqa: S101 - both options are needed
    ports = default_ports()
    tag = envelopes.tag(tenant, subject)
    erased = await envelopes.erase(ports, tag)
    log = AuditLog(directory)
    try:
        await log.append(ports, "note", {"about": "erased", "subject": tag, "keys": erased})
        await log.aclose(ports)
    except AuditError as error:
        _say(f"{erased} keys were destroyed, and the log could not say so: {error}")
        return BAD
    _say(f"{erased} keys were destroyed; the log says so.")
    if not erased:
        _say(
            "If there should have been some: is the subject written as 'user:NAME', its --tenant, "
            "and is --seal-with the secret that its keys were wrapped with?"
        )
    return GOOD if erased else BAD


COMMANDS: Final[Mapping[str, Any]] = {
    "verify": verify,
    "prove": prove,
    "check": check,
    "export": export,
    "head": head,
    "erase": erase,
}
"""The commands of `lamella audit`."""


# --- what is shown -----------------------------------------------------------------------------


def _tell(report: Report) -> None:
    from lamella.cli._render import show_table

    signed = f", signed by {', '.join(report.keys)}" if report.keys else ""
    _out(
        f"audit log {report.log or '(without an id)'}: {report.records} records of "
        f"{report.calls} calls in {len(report.segments)} segments{signed}"
    )
    rows = [
        (
            _harmless(one.segment),
            str(one.records),
            str(one.heads),
            f"{one.covered}",
            "good" if one.ok else "BAD",
        )
        for one in report.segments
    ]
    show_table(("segment", "records", "heads", "covered", ""), rows)
    for problem in report.problems:
        _out(f"BAD   {problem}.")
    for remark in report.remarks:
        _out(f"note  {remark.rstrip('.')}.")
    words = "good: every record is there as it was written, as far as heads and keys can show"
    _out(words if report.ok else "BAD: this log is not what was written")


def _show(value: object) -> None:
    from lamella.cli._output import show_json

    show_json(value)


def _line(value: Mapping[str, Any]) -> None:
    import json

    sys.stdout.write(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")


def _out(text: str) -> None:
    sys.stdout.write(f"{_harmless(text)}\n")


def _say(text: str) -> None:
    from lamella.cli._output import say

    say(_harmless(text))


def _harmless(text: str) -> str:
    """One line that steers no terminal: names in a log, and of its files, can be anybody's."""
    from lamella.cli._output import harmless

    return harmless(text).replace("\n", " ")


# --- what is given -----------------------------------------------------------------------------


def _heads(paths: Sequence[str]) -> list[dict[str, Any]]:
    """What is in files of heads, or of proofs."""
    from lamella_middlewares.audit._given import read_heads

    return [one for path in paths for one in _readable(path, read_heads)]


def _readable(path: str, read: Callable[[Path], T]) -> T:
    """What is read of a file. That it cannot be is a mistake in the command line, not a bad log."""
    try:
        return read(Path(path))
    except OSError as error:
        msg = f"The file {path!r} cannot be read: {error.strerror or type(error).__name__}."
        raise ConfigurationError(msg, hint="Give the path of a file that is there.") from None


def _keys(given: Sequence[str]) -> tuple[str, ...]:
    from lamella_middlewares.audit._keys import need_cryptography, public_key

    if given:
        need_cryptography("--key")
    found: list[str] = []
    for text in given:
        inside = len(text) < 1000 and "\n" not in text and Path(text).is_file()
        data = _readable(text, Path.read_bytes) if inside else text.encode()
        found.append(public_key(data.decode("utf-8", "replace")))
    return tuple(found)


async def _envelopes(seal_with: str | None, subject_keys: str | None) -> Envelopes | None:
    from lamella_middlewares.audit._envelope import Envelopes, KeyFiles
    from lamella_middlewares.audit._keys import need_cryptography

    if seal_with is None and subject_keys is None:
        return None
    if seal_with is None or subject_keys is None:
        msg = "Sealed content needs both --seal-with and --subject-keys."
        raise ConfigurationError(msg, hint="For example: --seal-with env:AUDIT_SEAL.")
    need_cryptography("--seal-with")
    place = os.path.abspath(os.path.expanduser(subject_keys))  # noqa: ASYNC240, PTH100, PTH111
    if not os.path.isdir(place):  # noqa: ASYNC240, PTH112
        msg = f"There is no directory {place!r}: without it all content would seem to be erased."
        hint = "Give with --subject-keys what Audit(subject_keys=...) names."
        raise ConfigurationError(msg, hint=hint)
    return Envelopes(await Secret(seal_with).fetch(), KeyFiles(Path(place)))


def _instant(option: str, text: str | None) -> int | None:
    """A date or a time in ISO 8601, in microseconds since the epoch; without a zone it is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{option} {text!r} is no time."
        raise ConfigurationError(msg, hint="Write 2026-05-01 or 2026-05-01T12:00:00Z.") from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return round(when.timestamp() * 1_000_000)
