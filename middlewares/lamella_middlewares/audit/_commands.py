"""`lamella audit`: verify a log, prove a record, export records, print a head, erase a subject.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | the log, or the proof, is not what it should be |
| 2 | the command line is wrong, or there is no such log or file |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lamella import AuditError, ConfigurationError, Secret
from lamella._ports import default_ports
from lamella_middlewares.audit._given import envelopes_of, heads_of, instant_of, keys_of
from lamella_middlewares.audit._told import print_line, print_text, say, tell

if TYPE_CHECKING:
    from lamella_middlewares.audit._scan import Problem

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
    from lamella.cli._output import show_json
    from lamella_middlewares.audit._verify import verify as run

    report = run(directory, heads=heads_of(head), keys=keys_of(key), without=without)
    if json:
        show_json(report.to_dict())
    else:
        tell(report)
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
        for old in heads_of([since]):
            for proof in consistency(directory, old):
                print_line(proof)
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
    proofs = run(directory, wanted, heads=heads_of(head), problems=problems)
    for proof in proofs:
        print_line(proof)
    for problem in problems:
        say(f"BAD  {problem}. What comes after it cannot be proved.")
    if not proofs:
        say("There is no such record in the log.")
    return GOOD if proofs and not problems else BAD


def check(proof: str, *, head: Sequence[str] = (), key: Sequence[str] = ()) -> int:
    """Check proofs that `prove` printed, without the log.

    Args:
        proof: The file with the proofs, one to a line.
        head: A file with heads that are known to be right. May be given again.
        key: The public key of the heads, as PEM or base64, or a file with it. May be given again.
    """
    from lamella_middlewares.audit._prove import check_proof

    heads, keys = heads_of(head), keys_of(key)
    code = GOOD
    for one in heads_of([proof]):
        wrong = check_proof(one, heads=heads, keys=keys)
        place = f"record {one.get('seq')} of segment {one.get('segment')}"
        if "old_size" in one:
            place = f"segment {one.get('segment')} since record {one.get('old_size')}"
        print_text(f"{place}: {'proved' if wrong is None else f'NOT proved: {wrong}'}")
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
        since=instant_of("--since", since),
        until=instant_of("--until", until),
        key=None if secret is None else DigestKey.of(secret),
    )
    told = Exported()
    envelopes = await envelopes_of(seal_with, subject_keys)
    ports = default_ports()
    async for record in run(
        directory, choice, ports, proofs=proofs, envelopes=envelopes, told=told
    ):
        print_line(record)
    for problem in told.problems:
        say(f"BAD  {problem}. What comes after it is not exported.")
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
        say(f"BAD  {problem}. There is no head over it.")
    if bad:
        return BAD
    if signer is not None or merge:
        print_line(made)
        return GOOD
    newest = [one.heads[-1].head for one in scans if one.heads]
    if not newest:
        say("The log has no head yet. Make one: --merge, or --sign-with SECRET.")
        return BAD
    for each in newest:
        print_line(each)
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
    envelopes = await envelopes_of(seal_with, subject_keys)
    assert envelopes is not None  # noqa: S101 - both options are needed
    ports = default_ports()
    tag = envelopes.tag(tenant, subject)
    erased = await envelopes.erase(ports, tag)
    log = AuditLog(directory)
    try:
        await log.append(ports, "note", {"about": "erased", "subject": tag, "keys": erased})
        await log.aclose(ports)
    except AuditError as error:
        say(f"{erased} keys were destroyed, and the log could not say so: {error}")
        return BAD
    say(f"{erased} keys were destroyed; the log says so.")
    if not erased:
        say(
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
