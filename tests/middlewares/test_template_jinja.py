"""Templates in Jinja2's language: in its sandbox, strict, bounded, and with plain data only."""

from __future__ import annotations

import pickle
import sys
from decimal import Decimal
from typing import Any

import pytest

from lamella import ConfigurationError, Message, PromptTemplate, TemplateError
from lamella._template_jinja import _environment


def text(source: str, x: Any = None, *, most: int = 10_000) -> str:
    """What a template with one variable says."""
    template = PromptTemplate.of(source, engine="jinja2", variables={"x": "json"})
    return "".join([message.text for message in template.written({"x": x}, most=most)])


def test_it_has_the_language() -> None:
    """Loops, conditions, filters and macros; lines of blocks leave no empty lines."""
    source = """
{% macro line(item) %}- {{ item.name | upper }}{% endmacro %}
{% for item in x if item.shown %}
  {% if loop.first %}
First:
  {% endif %}
{{ line(item) }}
{% endfor %}"""
    items = [{"name": "a", "shown": True}, {"name": "b", "shown": False}]
    assert text(source, items) == "\nFirst:\n- A\n"
    assert text("{{ x | tojson }} {{ 3 * 4 }} {{ 2 ** 8 }} {{ x.get('a') }}", {"a": 1}) == (
        '{"a": 1} 12 256 1'
    )
    assert text("{{ x | tojson(1) }}{{ x | map('upper') | list }}", ["<é"]) == '[\n "<é"\n]["<É"]'
    price = PromptTemplate.of("{{ x * 3 }}", engine="jinja2", variables={"x": "number"})
    assert price.messages(x=Decimal("0.10")) == (Message.user("0.30"),)


def test_what_is_empty_is_left_out() -> None:
    """A message of which nothing is left is none, so that conditions can leave messages out."""
    template = PromptTemplate.of(
        [
            {"role": "system", "content": "{% if x %}Be kind.{% endif %}"},
            {"role": "user", "content": ["{% if x %}a{% endif %}", "b"]},
        ],
        engine="jinja2",
        variables={"x": "flag"},
    )
    assert template.messages(x=False) == (Message.user("b"),)
    assert template.messages(x=True) == (Message.system("Be kind."), Message.user(["a", "b"]))
    assert pickle.loads(pickle.dumps(template)) == template


@pytest.mark.parametrize(
    ("source", "x"),
    [
        ("{{ x.__class__ }}", 1),
        ("{{ x.__class__.__mro__ }}", "text"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ x }}", 1),
        ("{{ cycler.__init__.__globals__ }}{{ x }}", 1),
        ("{{ '{0.__class__.__mro__}'.format(x) }}", "a"),
        ("{{ x.append(1) }}", []),
        ("{{ x.update({'a': 1}) }}", {}),
        ("{{ x * 1000000000 }}", "a"),
        ("{{ x * 1000000000 }}", [1]),
        ("{{ 10 ** 100 ** 100 }}{{ x }}", 1),
        ("{{ x ** 65 }}", 3),
        ("{% for i in range(1000000000) %}{{ x }}{% endfor %}", 1),
        ("{{ x.missing }}", {}),
        ("{{ x.missing.deeper }}", {}),
        ("{{ [x.missing] }}", {}),
        ("{{ [x] | map(attribute='__class__') | list }}", 1),
        ("{{ x.items }}", {}),
        ("{{ x | map('upper') }}", ["a"]),
        ("{{ cycler }}{{ x }}", 1),
        ("{{ x + 1 }}", "s3cret"),
        ("{{ {}[x] }}", "s3cret"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}{{ x }}", 1),
    ],
)
def test_the_sandbox_holds(source: str, x: Any) -> None:
    """Nothing behind the data, nothing changed, nothing huge; and no value in the error."""
    with pytest.raises(TemplateError, match=r"messages\[0\], line 1: \w+") as caught:
        text(source, x)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_values_are_never_read_as_language() -> None:
    """What a value says is data, also where it looks like a template."""
    assert text("{{ x }}", "{{ 7 * 7 }}{% raw %}") == "{{ 7 * 7 }}{% raw %}"
    assert text("{{ x }}", "<b>&") == "<b>&"


def test_it_stops_where_it_becomes_too_long() -> None:
    """A loop that would go on is left at the bound."""
    loop = "{% for i in range(90000) %}{% for j in range(90000) %}{{ x }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="becomes longer than it may"):
        text(loop, "abc")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% if x %}", "messages[0].content, line 1:"),
        ("\n{% include 'a' %}", "line 2: include takes from another template"),
        ("{% extends 'a' %}", "line 1: extends takes from"),
        ("{% import 'a' as b %}", "line 1: import takes from"),
        ("{{ x | random }}", "line 1: No filter named 'random'"),
        ("{{ x | nosuch }}", "line 1: No filter named 'nosuch'"),
        ("{{ lipsum() }}{{ x }}", "'lipsum' is not among the variables"),
        ("{{ y }}{{ x }}", "'y' is not among the variables"),
        ("{{ " + "(" * 1000 + "x" + ")" * 1000 + " }}", "messages[0].content"),
    ],
)
def test_what_is_no_template_is_refused(source: str, words: str) -> None:
    """When it is read, with the line."""
    with pytest.raises(ConfigurationError) as caught:
        PromptTemplate.of(source, engine="jinja2", variables={"x": "json"})
    assert words in str(caught.value)


def test_names_of_the_language_are_taken() -> None:
    """A variable cannot have one."""
    names = ("loop", "dict", "none")
    with pytest.raises(ConfigurationError) as caught:
        PromptTemplate.of("{{ loop }}", engine="jinja2", variables=dict.fromkeys(names, "text"))
    for name in names:
        assert f"variables.{name}: this name has a meaning of its own" in str(caught.value)


def test_without_jinja2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mistake, once, with the command."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    _environment.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r'pip install "lamella\[templates\]"'):
            PromptTemplate.of(["{{ a }}", "{{ b }}"], engine="jinja2")
    finally:
        _environment.cache_clear()
