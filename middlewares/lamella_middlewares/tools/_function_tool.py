"""A function as a tool: what the model is told of it, and how it may be run."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

import attrs

from lamella import ConfigurationError, Tool, ToolCall
from lamella._options import flag, is_async, optional_seconds, refused, span_or_none, whole
from lamella._schema_docs import words_of
from lamella_middlewares.tools._parameters import Parameters, given_parameters, parameters_of
from lamella_middlewares.tools._told import ToolContext

P = ParamSpec("P")
T = TypeVar("T")

Verdict: TypeAlias = bool | str
"""True lets a call run, False does not, and a text does not and is what the model is told."""

Approve: TypeAlias = Callable[[ToolCall, ToolContext], Verdict | Awaitable[Verdict]]
"""Asked before a call is run; plain or async."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def _name(tool: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not _NAME.match(value):
        want = "1 to 64 letters (a to z), digits, _ or -, which is what every provider accepts"
        raise refused(tool, option, value, want)


def _description(tool: Any, option: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str):
        raise refused(tool, option, value, "a text")


def _flag_or_none(tool: Any, option: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        flag(tool, option, value)


def _tries(tool: Any, option: attrs.Attribute[Any], value: Any) -> None:
    whole(0)(tool, option, value)
    if value and not tool.idempotent:
        want = "0, or idempotent=True: what may have had an effect is not done again"
        raise refused(tool, option, value, want)


def approve_given(owner: Any, option: attrs.Attribute[Any], value: object) -> None:
    """Something that can be asked, "ask", or None; a tool may also say False."""
    right = value is None or value == "ask" or callable(value)
    if not right and not (value is False and isinstance(owner, FunctionTool)):
        raise refused(owner, option, value, 'a function of (call, context), "ask", or None')


def most_given(owner: Any, option: attrs.Attribute[Any], value: Any) -> None:
    """A number of characters, or None."""
    if value is not None:
        whole(1)(owner, option, value)


def _declared(tool: FunctionTool[..., Any]) -> Tool:
    form = tool.parameters.form
    schema = form.strict if tool.strict else form.schema
    if schema is None:
        msg = f"tool({tool.name!r}, strict=True): {form.why_not}."
        raise ConfigurationError(msg, hint="Leave strict out, or change the parameter.")
    # The title is the tool's own name once more.
    said = {key: value for key, value in schema.items() if key != "title"}
    if not tool.parameters.whole:
        said["additionalProperties"] = False
    return Tool(tool.name, tool.description, said, strict=tool.strict)


@attrs.frozen(eq=False, kw_only=True, repr=False)
class FunctionTool(Generic[P, T]):
    """A function that a model may call. Made by `tool`; calling it calls the function.

    Attributes:
        function: The function.
        name: What the model calls it by.
        description: What it does, for the model to read.
        parameters: What it takes.
        timeout: Seconds that one call may take, above 0; None leaves it to the layer.
        idempotent: Whether running it twice is the same as running it once.
        retries: How often a call that fails is tried again, 0 or more; only where idempotent.
        approve: Who is asked before a call; see `tool`.
        max_output: Characters of text that a result may have; None leaves it to the layer.
        strict: Whether the provider must hold the arguments to the schema; None leaves it to it.
        declared: What the model is told.
    """

    function: Callable[P, T]
    name: str = attrs.field(validator=_name)
    description: str = attrs.field(validator=_description)
    parameters: Parameters = attrs.field(repr=False)
    timeout: float | None = attrs.field(
        default=None, converter=optional_seconds, validator=span_or_none
    )
    idempotent: bool = attrs.field(default=False, validator=flag)
    retries: int = attrs.field(default=0, validator=_tries)
    approve: Approve | Literal["ask", False] | None = attrs.field(
        default=None, validator=approve_given
    )
    max_output: int | None = attrs.field(default=None, validator=most_given)
    strict: bool | None = attrs.field(default=None, validator=_flag_or_none)
    declared: Tool = attrs.field(
        init=False, repr=False, default=attrs.Factory(_declared, takes_self=True)
    )
    is_async: bool = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: is_async(_inner(self.function)), takes_self=True),
    )

    @property
    def written_as(self) -> str:
        """How its options are given, for errors about them."""
        return f"tool({self.name!r}, "

    def __repr__(self) -> str:
        return f"tool({self.name!r})"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function itself."""
        return self.function(*args, **kwargs)


class ToolOptions(TypedDict, total=False):
    """What `tool` takes besides a function; see there."""

    name: str | None
    description: str | None
    parameters: Mapping[str, Any] | None
    timeout: float | timedelta | None
    idempotent: bool
    retries: int
    approve: Approve | Literal["ask", False] | None
    max_output: int | None
    strict: bool | None


@overload
def tool(function: Callable[P, T], /, **options: Unpack[ToolOptions]) -> FunctionTool[P, T]: ...
@overload
def tool(
    **options: Unpack[ToolOptions],
) -> Callable[[Callable[P, T]], FunctionTool[P, T]]: ...
def tool(function: Any = None, /, **options: Unpack[ToolOptions]) -> Any:
    """A function as a tool, with options; also as a decorator: `@tool(timeout=5)`.

    The model is told what the signature and the docstring say: types, defaults, and the words for
    each parameter (Google's, NumPy's or reStructuredText's style). A parameter annotated
    `ToolContext` or `Context` is given the call's, and the model is not told of it.

    Args:
        function: Plain or async. A plain one is run in a worker thread. It returns text, parts of a
            message (`Text`, `Image`, `File`), or anything that JSON has a form for.
        **options: By name:

            name: What the model calls it by; None takes the function's.
            description: What it does, for the model; None takes the docstring's beginning.
            parameters: A JSON Schema of the arguments instead of the signature. The function is
                given the whole object, as a dict.
            timeout: Seconds of one try, above 0, or a `timedelta`; None leaves it to the layer.
            idempotent: Whether running it twice is the same as running it once.
            retries: How often a call that fails is tried again; 0 or more, only where idempotent.
            approve: Who is asked before each call: a function of (call, context) that returns True,
                False, or a text that the model is told; `"ask"` ends the run with
                `ApprovalRequired`; False asks nobody; None leaves it to the layer.
            max_output: Characters of text that a result may have, 1 or more; None leaves it to the
                layer.
            strict: Whether the provider must hold the arguments to the schema.

    Raises:
        ConfigurationError: If the function cannot be a tool; it says what to change.
    """
    if function is None:
        return functools.partial(_tool, options=options)
    return _tool(function, options)


def _tool(function: Any, options: ToolOptions) -> FunctionTool[..., Any]:
    given = dict(options)
    unknown = sorted(given.keys() - ToolOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(sorted(ToolOptions.__annotations__))
        raise ConfigurationError(f"tool() has no option {unknown[0]!r}.", hint=f"Known: {known}.")
    _must_be_a_function(function)
    name = given.pop("name", None) or _name_of(function)
    words = words_of(_inner(function))
    about = given.pop("description", None)
    schema = cast("Mapping[str, Any] | None", given.pop("parameters", None))
    if schema is None:
        parameters = parameters_of(function, str(name), words)
    else:
        parameters = given_parameters(function, str(name), schema)
    return FunctionTool(
        function=function,
        name=cast("str", name),
        description=words.about if about is None else cast("str", about),
        parameters=parameters,
        **cast("Any", given),
    )


def tool_of(given: Any) -> FunctionTool[..., Any]:
    """The tool itself, or the one that a function is."""
    if isinstance(given, FunctionTool):
        return cast("FunctionTool[..., Any]", given)
    return _tool(given, {})


def _must_be_a_function(given: Any) -> None:
    hint = "Give a function, plain or async, or tool(function, ...)."
    if isinstance(given, FunctionTool):
        msg = f"tool() was given {given!r}, which is a tool already."
        raise ConfigurationError(msg, hint="Give all options in one place.")
    if isinstance(given, type):
        msg = f"The class {given.__name__} was given where a tool's function is needed."
        raise ConfigurationError(msg, hint="Give a method of an instance, or a function.")
    if isinstance(given, str):
        hint = (
            "Give the function itself. A file cannot name one: give it in the call, "
            "Pipeline.preset(..., tools={'tools': [function]})."
        )
    if not callable(given):
        raise ConfigurationError(f"{given!r} is no function, so it is no tool.", hint=hint)
    inner = _inner(given)
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        msg = f"The tool {_name_of(given)!r} is a generator: a model is given a result whole."
        raise ConfigurationError(msg, hint="Return a list, or the text.")


def _inner(function: Any) -> Any:
    """What is called in the end, for its words and its kind."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return function if inspect.isroutine(function) else type(function).__call__


def _name_of(function: Any) -> str:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    name = getattr(inner, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        msg = f"The tool {function!r} has no name."
        raise ConfigurationError(msg, hint='Give it one: tool(function, name="look_up").')
    return name
