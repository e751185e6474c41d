"""Prompt templates in Jinja2's language, in its sandbox.

The environment loads nothing, knows nothing of chance, changes nothing that it is given, and treats
a name that is not there as a mistake. What a template makes is counted while it is made. Values
are plain data, so that there is nothing behind them to reach for.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import attrs

from lamella._errors import ConfigurationError
from lamella._template_syntax import TooLong, WriteFailed
from lamella._template_values import as_json

if TYPE_CHECKING:
    from jinja2 import Template

INSTALL: Final = 'pip install "lamella[templates]"'

_CONSTANTS: Final = frozenset({"False", "None", "True", "false", "none", "true"})
_MAKERS: Final = frozenset({"cycler", "dict", "joiner", "namespace", "range"})

RESERVED: Final = _CONSTANTS | _MAKERS | {"caller", "kwargs", "loop", "self", "super", "varargs"}
"""Names that the language has a meaning for."""

_BY_CHANCE: Final = ("lipsum", "random")
_BITS: Final = 4096


@attrs.frozen(eq=False)
class JinjaText:
    """A text in Jinja2's language, compiled.

    Attributes:
        names: The variables in it.
    """

    names: frozenset[str]
    _template: Template

    def write(self, values: Mapping[str, Any], most: int) -> str:
        """The text with these values.

        Raises:
            TooLong: If it has more than `most` characters; it is not written to its end.
            WriteFailed: If the template fails.
        """
        pieces: list[str] = []
        try:
            for piece in self._template.generate({name: values[name] for name in self.names}):
                most -= len(piece)
                if most < 0:
                    raise TooLong
                pieces.append(piece)
        except TooLong:
            raise
        except Exception as error:  # noqa: BLE001 - the language lets everything happen
            line = _line_of(error.__traceback__)
            where = f"line {line}" if line else "somewhere"
            # Its words may repeat what the template was given, and so may its cause.
            raise WriteFailed(f"{where}: {type(error).__name__}") from None
        return "".join(pieces)


def jinja_text(source: str) -> tuple[JinjaText | None, list[str]]:
    """A text compiled, and what is wrong with it.

    Raises:
        ConfigurationError: If Jinja2 is not installed.
    """
    environment = _environment()
    from jinja2 import TemplateSyntaxError, meta, nodes

    try:
        tree = environment.parse(source)
        elsewhere = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
        wrong = [
            f"line {node.lineno}: {type(node).__name__.lower()} takes from another template, and "
            "a template stands for itself"
            for node in tree.find_all(elsewhere)
        ]
        if wrong:
            return None, wrong
        names = meta.find_undeclared_variables(tree) - set(environment.globals)
        return JinjaText(frozenset(names), environment.from_string(source)), []
    except TemplateSyntaxError as error:
        return None, [f"line {error.lineno}: {error.message or 'not the language of Jinja2'}"]
    except (RecursionError, SyntaxError, ValueError) as error:  # nesting beyond Python's bounds
        return None, [f"not the language of Jinja2: {type(error).__name__}"]


@cache
def _environment() -> Any:
    try:
        from jinja2 import StrictUndefined, Undefined
        from jinja2.exceptions import SecurityError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError as error:
        msg = 'engine = "jinja2" needs Jinja2, which is not installed.'
        raise ConfigurationError(msg, hint=INSTALL) from error

    class Sandbox(ImmutableSandboxedEnvironment):
        """The sandbox, in which no product is larger than anybody needs."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """A product or a power of numbers."""
            for each in (left, right):
                if not isinstance(each, int | float | Decimal) or (
                    isinstance(each, int) and each.bit_length() > _BITS
                ):
                    raise SecurityError(f"{operator} is for numbers")
            if operator == "**" and abs(right) > 64:
                raise SecurityError("a power of more than 64")
            return super().call_binop(context, operator, left, right)

    def finalized(value: Any) -> Any:
        """What an expression has given, written as in the plain syntax."""
        if isinstance(value, str | Undefined):  # which says itself what is missing
            return value
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return value
        return as_json(value)  # fails for what is no value, such as a function

    made: Any = Sandbox(
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalized,
    )
    made.filters["tojson"] = as_json  # Jinja2's own writes for HTML
    for name in _BY_CHANCE:
        made.globals.pop(name, None)
        made.filters.pop(name, None)
    return made


def _line_of(traceback: TracebackType | None) -> int | None:
    """The line of the template in which it failed."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
