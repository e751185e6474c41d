"""The forms in which options take targets, in code and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from lamella._errors import ConfigurationError, LamellaError
from lamella._layers import must_be_async, name_of
from lamella._mistakes import Finding, Misfit
from lamella._nothing import NOTHING
from lamella._options import is_number
from lamella._pipeline import Pipeline
from lamella._registry import registry
from lamella._structuring import build, parameters_of, wrong_names
from lamella._targets import REST_SECONDS, Target, must_be_target_changes

FORMS: Final = (
    "a model's name, a transport, a pipeline, a Target, or a table with `model`, `use` or `preset`"
)

_OWN: Final = ("use", "preset", "name", "model", "changes", "keys", "spread", "rest", "tags")
"""What a table says of the target; the rest are options of the transport, or of the preset."""

_KEY_OPTIONS: Final = ("api_key", "key")
"""What transports call their credential."""


def as_targets(given: Any, option: str = "targets") -> tuple[Target, ...]:
    """Targets from what an option was given: one, or a list.

    Each is one of

    - a `Target`;
    - text: another model, through the same transport;
    - a transport: any handler, or the class's instance. A model of its own (`OpenAI(model=...)`) is
      what it is asked for;
    - a `Pipeline`, which is run on its own stack, in the same call;
    - a table: `{"model": "gpt-4o", "temperature": 0}` changes the request; `{"use": "azure", ...}`
      is a registered transport with options, and may have `model` and `changes` beside it, or
      `keys`, a list of credentials that makes it a pool; `{"preset": "cheap"}` is the pipeline of a
      preset. Each may have a `name` and `tags`.

    Their names are made different: a second `azure` is `azure#2`.

    Args:
        given: What was given.
        option: What it was given as, for messages.

    Raises:
        ConfigurationError: If something is no target; all mistakes are named.
    """
    single = isinstance(given, str | Mapping | Target) or callable(given)
    items: list[Any] = [given] if single else _listed(given, option)
    findings: list[Finding] = []
    found: list[Target] = []
    for index, item in enumerate(items):
        path = (option,) if single else (option, index)
        try:
            found.append(as_target(item))
        except Misfit as misfit:
            findings.extend(misfit.under(*path))
        except LamellaError as error:
            findings.append(Finding(path, str(error), error=error))
    if findings:
        raise Misfit(findings)
    return told_apart(found)


def as_target(given: Any) -> Target:
    """One target; see `as_targets`.

    Raises:
        ConfigurationError: If it is none.
    """
    if isinstance(given, Target):
        _check_target(given)
        return given
    if isinstance(given, str) and given:
        return Target(given, None, {"model": given})
    if isinstance(given, Mapping):
        return _from_table(cast("Mapping[str, Any]", given))
    if callable(given):
        return _from_transport(given)
    raise Misfit([Finding((), FORMS, given)])


def shown(given: Any) -> str:
    """What an option for a target was given, for its `repr`.

    Of a table only what it is a table of, without the options of the transport: they may be keys.
    """
    if isinstance(given, Mapping):
        table = cast("Mapping[str, Any]", given)
        return repr(
            {name: table[name] for name in ("use", "preset", "name", "model") if name in table}
        )
    return repr(given) if isinstance(given, str | Target) or callable(given) else "..."


def pooled(name: str, transports: Any, **rest: Any) -> Target:
    """A pool of credentials; see `Target.pool`.

    Raises:
        ConfigurationError: If it cannot be.
    """
    _check_name(name)
    if isinstance(transports, str) or not hasattr(transports, "__iter__"):
        msg = f"Target.pool({name!r}) takes a list of transports, not {transports!r}."
        raise ConfigurationError(msg, hint="One transport for each credential.")
    members: list[Target] = []
    for number, item in enumerate(transports, 1):
        transport: Any = registry().make("transports", item) if isinstance(item, str) else item
        if isinstance(transport, Pipeline):
            msg = f"Target.pool({name!r}) was given a pipeline, whose credentials are its own."
            raise ConfigurationError(msg, hint="Give the transports, one for each credential.")
        must_be_async(transport, name_of(transport), "transport")
        members.append(Target(f"{name}#{number}", transport))
    if not members:
        msg = f"Target.pool({name!r}) has no transport."
        raise ConfigurationError(msg, hint="Give one for each credential.")
    seconds = rest.get("rest", REST_SECONDS)
    if not is_number(seconds) or seconds <= 0:
        msg = f"Target.pool({name!r}, rest={seconds!r}): give seconds above 0."
        raise ConfigurationError(msg)
    if not isinstance(rest.get("spread", False), bool):
        msg = f"Target.pool({name!r}, spread={rest['spread']!r}): give True or False."
        raise ConfigurationError(msg)
    changes = _with_model(members[0].transport, rest.pop("changes", NOTHING))
    must_be_target_changes(changes, f"The target {name!r}")
    pool = Target(name, members[0].transport, credentials=tuple(members), **rest)
    return pool.but(changes=changes)


def _listed(given: Any, option: str) -> list[Any]:
    if not hasattr(given, "__iter__"):
        raise Misfit([Finding((option,), f"a list of targets, each {FORMS}", given)])
    items: list[Any] = list(given)
    if not items:
        raise Misfit([Finding((option,), "is empty: give at least one target")])
    return items


def told_apart(targets: Sequence[Target]) -> tuple[Target, ...]:
    """The same targets with names that differ: a second `azure` is `azure#2`."""
    taken = {member.name for target in targets for member in target.credentials}
    told: list[Target] = []
    for target in targets:
        name, number = target.name, 1
        while name in taken:
            number += 1
            name = f"{target.name}#{number}"
        taken.add(name)
        told.append(target if name == target.name else target.but(name=name))
    return tuple(told)


def _check_target(target: Target) -> None:
    """Refuse what was put together by hand and cannot work."""
    _check_name(target.name)
    what = f"The target {target.name!r}"
    if target.transport is not None and not target.nested:
        must_be_async(target.transport, name_of(target.transport), "transport")
    for field, value in (("changes", target.changes), ("tags", target.tags)):
        if not isinstance(cast("object", value), Mapping):
            msg = f"{what} has {field}={value!r}: give a table."
            raise ConfigurationError(msg)
    must_be_target_changes(target.changes, what)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        msg = f"A target is called {name!r}: give it a name."
        raise ConfigurationError(msg, hint="Traces, limits and breakers know it by that.")


def _from_transport(transport: Any) -> Target:
    name = name_of(transport)
    if not isinstance(transport, Pipeline):
        must_be_async(transport, name, "transport")
    changes = _with_model(transport, NOTHING)
    must_be_target_changes(changes, f"The target {name!r}")
    return Target(name, transport, changes)


def _with_model(transport: Any, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The changes, with the transport's own model where it has one.

    The request's model was meant for another transport; one made with a model is meant for that.
    """
    while isinstance(transport, Pipeline):
        transport = transport.transport
    model = getattr(transport, "model", None)
    if isinstance(model, str) and model and "model" not in changes:
        return {**changes, "model": model}
    return changes


def _from_table(given: Mapping[str, Any]) -> Target:
    findings = wrong_names(given)
    if findings:
        raise Misfit(findings)
    table = {name.replace("-", "_"): value for name, value in given.items()}
    own: dict[str, Any] = {name: table.pop(name) for name in _OWN if name in table}
    _check_own(own)
    if "use" in own and "preset" in own:
        raise Misfit([Finding(("preset",), "stands beside `use`; a target is one of them")])
    if "use" in own:
        return _with_rest(_using(own, table), own)
    for name in ("keys", "spread", "rest"):
        if name in own:
            raise Misfit([Finding((name,), "needs `use`: a pool has a transport for each key")])
    if "preset" in own:
        return _with_rest(_of_preset(own["preset"], table), own)
    changes = {**table, **own.get("changes", NOTHING)}
    if "model" in own:
        changes["model"] = own["model"]
    if not changes and not ("tags" in own or "name" in own):
        raise Misfit([Finding((), FORMS, given)])
    name = own.get("name") or changes.get("model") or ",".join(sorted(changes)) or "same"
    must_be_target_changes(changes, f"The target {name!r}")
    return Target(str(name), None, changes, tags=own.get("tags", NOTHING))


def _check_own(own: Mapping[str, Any]) -> None:
    findings: list[Finding] = []
    for name in ("use", "preset", "name", "model"):
        value = own.get(name, "x")
        if not isinstance(value, str) or not value:
            findings.append(Finding((name,), "a name", value))
    findings += [
        Finding((name,), "a table", own[name])
        for name in ("changes", "tags")
        if not isinstance(own.get(name, NOTHING), Mapping)
    ]
    keys = own.get("keys", ("x",))
    if not isinstance(keys, list | tuple) or not keys:
        # Never with the value: what was given may be a key.
        findings.append(Finding(("keys",), "has to be a list of references such as 'env:NAME'"))
    if not isinstance(own.get("spread", False), bool):
        findings.append(Finding(("spread",), "true or false", own["spread"]))
    rest = own.get("rest", 1)
    if not is_number(rest) or rest <= 0:
        findings.append(Finding(("rest",), "seconds above 0", rest))
    if findings:
        raise Misfit(findings)


def _with_rest(target: Target, own: Mapping[str, Any]) -> Target:
    """The target with what its table says besides what it is."""
    changes = {**target.changes, **own.get("changes", NOTHING)}
    if "model" in own:
        changes["model"] = own["model"]
    must_be_target_changes(changes, f"The target {target.name!r}")
    return target.but(name=own.get("name"), changes=changes, tags=own.get("tags"))


def _using(own: Mapping[str, Any], options: Mapping[str, Any]) -> Target:
    name = own["use"]
    factory = registry().factory("transports", name)
    if "keys" not in own:
        return _from_transport(build(factory, options))
    known = parameters_of(factory)
    option = next((each for each in _KEY_OPTIONS if each in known.types), None)
    if option is None:
        text = f"the transport {name!r} takes none: it has no option `api_key`"
        raise Misfit([Finding(("keys",), text)])
    if option in options:
        raise Misfit([Finding((option,), "stands beside `keys`; put it among them")])
    made = [build(factory, {**options, option: key}) for key in own["keys"]]
    pool = {each: own[each] for each in ("spread", "rest") if each in own}
    return pooled(name_of(made[0]), made, **pool)


def _of_preset(name: str, overrides: Mapping[str, Any]) -> Target:
    pipeline: Any = Pipeline.preset(name, **overrides)
    return Target(pipeline.name, pipeline, _with_model(pipeline, NOTHING))
