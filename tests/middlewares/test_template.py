"""Template: a prompt by name becomes messages, before anything else sees the request."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lamella import (
    ChatRequest,
    ConfigurationError,
    Context,
    Finish,
    Image,
    Message,
    Pipeline,
    PluginError,
    Prompt,
    PromptTemplate,
    Registry,
    TemplateError,
    TokenCount,
    TokenCountRequest,
    inside,
)
from lamella._registry import using
from lamella.testing import Scripted, virtual_ports
from lamella_middlewares.cache import Cache
from lamella_middlewares.debug import Debug
from lamella_middlewares.pii import PII
from lamella_middlewares.template import Template

pytestmark = pytest.mark.anyio

REPLY = """
version = "{version}"
{more}
[defaults]
model = "small"
temperature = 0.25
stop = ["END"]
extra = {{ a = 1, b = 1 }}

[[messages]]
role = "system"
pinned = true
content = '''
Version {version} for {{name}}.
'''

[[messages]]
insert = "history"
"""
HISTORY = [Message.user("Hi"), Message.assistant("Hello")]


def written(folder: Path, name: str, version: str = "1", more: str = "") -> Path:
    """A template's file, made anew."""
    file = folder / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(REPLY.format(version=version, more=more))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two versions of a template, and a draft."""
    written(tmp_path, "support/reply", "9")
    written(tmp_path, "support/reply@10", "10")
    written(tmp_path, "support/reply@11", "11", "draft = true")
    return tmp_path


def pipeline(layers: list[Any], transport: Any = "mock") -> Pipeline:
    """A pipeline with a clock and stores of its own."""
    return Pipeline(layers, transport, ports=virtual_ports())


async def sent(layer: Any, *prompts: Any, **fields: Any) -> ChatRequest:
    """What the transport gets."""
    transport = Scripted(["ok"])
    await pipeline([layer], transport).run(ChatRequest.of(prompts, **fields))
    (request,) = transport.requests
    assert isinstance(request, ChatRequest)
    return request


def ask(**more: Any) -> Prompt:
    """The prompt that most tests ask with."""
    return Prompt("support/reply", name="Ada", history=(), **more)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_becomes_its_messages(folder: Path, stream: bool) -> None:
    """They stand in its place among the others, whether the answer is streamed or not."""
    transport = Scripted(["ok"])
    pipe = pipeline([Template(folder)], transport)
    before = Message.system("First.")
    prompt = Prompt("support/reply", name="Ada", history=HISTORY)
    request = ChatRequest.of([before, prompt, Message.user("Last?")])
    if stream:
        async with pipe.stream(request) as response:
            await response.collect()
    else:
        response = await pipe.run(request)
    assert response.text == "ok"
    system = Message.system("Version 10 for Ada.")
    assert transport.requests[0].messages == (before, system, *HISTORY, Message.user("Last?"))  # type: ignore[attr-defined]
    assert transport.requests[0].messages[1].pinned  # type: ignore[attr-defined]
    assert request.messages[1] is prompt


async def test_a_request_without_prompts_passes_as_it_is(folder: Path) -> None:
    """The same request goes on, and nothing is noted."""
    seen: list[Any] = []

    async def note(request: Any, call_next: Any) -> Any:
        seen.append(request)
        return await call_next(request)

    pipe = pipeline([note, Template(folder), note], Scripted(["ok"]))
    response = await pipe.run(ChatRequest.of("hello"))
    assert seen[0] is seen[1]
    assert not response.trace.notes


async def test_versions(folder: Path) -> None:
    """The caller's word comes before the layer's pin, and that before the latest of no draft."""
    pinned = Template(folder, pins={"support/reply": "9"})
    assert (await sent(Template(folder), ask())).messages[0].text == "Version 10 for Ada."
    assert (await sent(pinned, ask())).messages[0].text == "Version 9 for Ada."
    assert (await sent(pinned, ask(version="10.0"))).messages[0].text == "Version 10 for Ada."
    assert (await sent(pinned, ask(version="11"))).messages[0].text == "Version 11 for Ada."


async def test_what_the_request_leaves_open_is_the_templates_to_say(folder: Path) -> None:
    """What it states itself stays, zero included; of two templates the first counts."""
    request = await sent(Template(folder), ask(), temperature=0, extra={"a": 2})
    assert (request.model, request.temperature, request.stop) == ("small", 0, ("END",))
    assert request.extra == {"a": 2, "b": 1}
    other = PromptTemplate.of("x", name="other", defaults={"model": "other", "seed": 7})
    request = await sent(Template(folder), Prompt(other), ask())
    assert (request.model, request.seed, request.temperature) == ("other", 7, 0.25)


async def test_the_trace_and_the_tag_say_which_prompt_it_was(folder: Path) -> None:
    """Name, version and digest, and no variable; a tag of the caller's stays."""
    layer = Template(folder)
    response = await pipeline([layer], Scripted(["ok"])).run(ChatRequest.of(ask()))
    (note,) = response.trace.notes
    digest = layer.library.get("support/reply").digest
    assert (note.layer, note.name) == ("template", "template.rendered")
    assert note.fields == {"template": "support/reply", "version": "10", "digest": digest}
    assert (await sent(layer, ask())).context.tags == {"prompt": "support/reply@10"}
    own = Context(tags={"prompt": "mine", "team": "a"})
    assert (await sent(layer, ask(), context=own)).context.tags == own.tags
    assert (await sent(Template(folder, tag=None), ask())).context.tags == {}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt("support/replies"), "no prompt template 'support/replies'. Did you mean 'supp"),
        (Prompt("../secret"), "no prompt template '../secret'"),
        (ask(version="12"), "no version '12'. It has 9, 10, 11."),
        (ask(version="../9"), "no version '../9'"),
        (ask(nme="x"), "nme is none of its variables. Did you mean 'name'? Its variables are"),
        (Prompt("support/reply", name=3), "name is of the type int, expected text; history is mis"),
    ],
)
async def test_what_is_wrong_with_a_prompt_is_said_and_nothing_is_sent(
    prompt: Prompt, words: str, folder: Path
) -> None:
    """The error names the template, what is wrong, and what to do; never a value."""
    transport = Scripted(["ok"])
    with pytest.raises(TemplateError) as caught:
        await pipeline([Template(folder)], transport).run(ChatRequest.of(prompt))
    assert words in str(caught.value)
    assert "Ada" not in str(caught.value)
    assert caught.value.template == prompt.template
    assert transport.requests == []
    assert caught.value.attempts == ()


async def test_a_prompt_is_never_sent_as_it_is() -> None:
    """Without the layer, an attempt is refused before the transport sees it."""
    transport = Scripted(["ok"])
    with pytest.raises(TemplateError, match=r"^Prompt\('a'\) has not .* Put Template\(folder\)"):
        await pipeline([], transport).run(
            ChatRequest.of([Message.user("x"), Prompt("a", name="Ada")])
        )
    assert transport.requests == []


async def test_observers_outside_see_which_prompt_it_is_and_no_variables(folder: Path) -> None:
    """What stands in its place says so little that a layer outside can show it."""
    told: list[str] = []
    debug = Debug(sink=told.append)
    await pipeline([debug, Template(folder)], Scripted(["ok"])).run(ChatRequest.of(ask()))
    assert debug.flush(30)
    assert "opaque" in "".join(told)
    prompt = ask()
    assert "Ada" not in f"{prompt!r} {prompt.parts}" + "".join(told)
    assert "support/reply" in str(prompt.parts)
    with pytest.raises(TemplateError, match="has no dict"):
        prompt.to_dict()


async def test_prompts_are_values(folder: Path) -> None:
    """Equal ones are equal, and they can be copied and pickled."""
    prompt = ask()
    assert prompt == ask() != ask(version="9")
    assert copy.deepcopy(prompt) == pickle.loads(pickle.dumps(prompt)) == prompt
    template = Template(folder).library.get("support/reply")
    assert pickle.loads(pickle.dumps(template)) == template
    with pytest.raises(TypeError, match=r"PromptTemplate\.of"):
        Prompt(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="version"):
        Prompt(template, version="2")


async def test_variables_pass_what_protects_personal_data(folder: Path) -> None:
    """PII stands inside, so that it sees the messages and not the prompt."""
    transport = Scripted(["ok"])
    prompt = Prompt("support/reply", name="ada@example.com", history=())
    await pipeline([Template(folder), PII()], transport).run(ChatRequest.of(prompt))
    assert "ada@example.com" not in transport.requests[0].messages[0].text  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="variables of a template"):
        Pipeline([PII(), Template(folder)])


async def test_tokens_are_counted_of_the_messages(folder: Path) -> None:
    """A request that asks how long a prompt is gets the same messages."""
    seen: list[Any] = []

    async def count(request: Any) -> Any:
        seen.append(request)
        return request.answer([TokenCount(3), Finish("stop")])

    request = TokenCountRequest.of(ask())
    await pipeline([Template(folder)], count).run(request)
    assert seen[0].chat.messages == (Message.system("Version 10 for Ada."),)
    assert (seen[0].model, seen[0].context.tags) == ("small", {"prompt": "support/reply@10"})
    with pytest.raises(TemplateError, match="has not become messages"):
        await pipeline([], count).run(request)


async def test_equal_prompts_are_one_for_a_cache(folder: Path) -> None:
    """The keys are those of the messages; another text of the template is another key."""
    transport = Scripted(["one", "two"])
    pipe = pipeline([Template(folder), Cache(when="all", tenant="shared")], transport)
    for version, answer in ((None, "one"), ("10", "one"), ("9", "two")):
        response = await pipe.run(ChatRequest.of(ask(version=version)))
        assert response.text == answer
    seen: list[str] = []

    async def note(request: Any, call_next: Any) -> Any:
        seen.append(inside(call_next))
        return await call_next(request)

    for text in ("a", "b", "b"):
        layer = Template(templates=[PromptTemplate.of(text, name="t")])
        await pipeline([note, layer], Scripted(["ok"])).run(ChatRequest.of(Prompt("t")))
    assert seen[0] != seen[1] == seen[2]


async def test_changed_files_are_read_again_where_that_is_wanted(folder: Path) -> None:
    """A broken one is told of while it is broken; without `reload` nothing is looked at."""
    layer, still = Template(folder, reload=True), Template(folder)
    file = written(folder, "support/reply@12", "12")
    assert (await sent(layer, ask())).messages[0].text == "Version 12 for Ada."
    file.write_text("version = ")
    with pytest.raises(ConfigurationError, match=r"reply@12\.toml: not a TOML file"):
        await sent(layer, ask())
    file.unlink()
    assert (await sent(layer, ask())).messages[0].text == "Version 10 for Ada."
    assert (await sent(still, ask())).messages[0].text == "Version 10 for Ada."


async def test_templates_of_plugins(tmp_path: Path) -> None:
    """A plugin's template, table or folder is found by its name, after the layer's own."""
    written(tmp_path / "theirs", "reply", "3")
    registry = Registry([])
    theirs = {
        "hello": PromptTemplate.of("Hello {name}"),
        "bye": {"version": "4", "messages": [{"role": "user", "content": "Bye {name}"}]},
        "shop": tmp_path / "theirs",
        "odd": lambda: 3,
    }
    registry.add(templates=theirs)
    with using(registry):
        layer = Template(templates=[PromptTemplate.of("Mine {name}", name="mine")])
        assert (await sent(layer, Prompt("hello", name="A"))).messages == (Message.user("Hello A"),)
        bye = await sent(layer, Prompt("bye", version="4", name="A"))
        assert bye.messages == (Message.user("Bye A"),)
        reply = await sent(layer, Prompt("shop/reply", name="A", history=()))
        assert reply.context.tags == {"prompt": "shop/reply@3"}
        with pytest.raises(TemplateError, match="Did you mean 'shop/reply'"):
            await sent(layer, Prompt("shop/replay"))
        with pytest.raises(PluginError, match="'odd' of this program is 3, which is no"):
            await sent(layer, Prompt("odd"))
        registry.add(templates={"odd": PromptTemplate.of("x")})
        names = [template.label for template in layer.library.templates()]
        assert names == ["bye@4", "hello@1", "mine@1", "odd@1", "shop/reply@3"]
        assert Template(pins={"bye": "4"}).library.get("bye").version == "4"


async def test_a_broken_plugin_breaks_its_own_names_only(tmp_path: Path) -> None:
    """Its error says whose it is; all others are there, and it is told which are not."""

    def fail() -> None:
        raise KeyError("oops")

    registry = Registry([])
    registry.add(templates={"fails": fail, "gone": tmp_path / "gone", "odd": {"messages": 3}})
    registry.add(templates={"missing": "no_such_module:x", "hello": PromptTemplate.of("Hello")})
    with using(registry):
        layer = Template()
        assert (await sent(layer, Prompt("hello"))).messages == (Message.user("Hello"),)
        for name in ("fails", "gone/a", "odd", "missing"):
            with pytest.raises(PluginError, match=f"{name.split('/')[0]!r} of this program"):
                await sent(layer, Prompt(name))
        with pytest.raises(TemplateError, match="no prompt template 'other'"):
            await sent(layer, Prompt("other"))
        assert [template.label for template in layer.library.templates()] == ["hello@1"]
        assert sorted(layer.library.broken()) == ["fails", "gone", "missing", "odd"]
        assert layer.library.own() == ()


def test_folders_are_read_again_from_any_thread(folder: Path) -> None:
    """In worker threads, on a real clock: no loop waits for a disk."""
    pipe = Pipeline([Template(folder, reload=True)], Scripted(["ok"], repeat=True))
    request = ChatRequest.of(ask())
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: pipe.run_sync(request).text, range(8)))
    assert answers == ["ok"] * 8


async def test_it_bounds_how_long_texts_become(folder: Path) -> None:
    """What would be longer is refused, and no text of it is made."""
    layer = Template(folder, max_characters=30)
    request = await sent(layer, Prompt("support/reply", name="x" * 14, history=()))
    assert len(request.messages[0].text) == 30
    with pytest.raises(TemplateError, match="becomes longer than it may"):
        await sent(layer, Prompt("support/reply", name="x" * 15, history=()))


async def test_parts_and_files_of_presets(folder: Path) -> None:
    """Pictures are inserted as they are; a preset's table has the same options."""
    look = PromptTemplate.of(
        [{"role": "user", "content": ["What is it?", {"insert": "picture"}]}],
        variables={"picture": "image"},
    )
    picture = Image(url="https://example.com/a.png")
    request = await sent(Template(), Prompt(look, picture=picture))
    assert request.messages == (Message.user(["What is it?", picture]),)
    table = {"folders": str(folder), "pins": {"support/reply": "9"}}
    pipe = Pipeline.preset("development", transport="mock", template=table)
    assert "template" in [info.name for info in pipe.infos]
    with pytest.raises(ConfigurationError, match=r"template\.pins\.a: got 1"):
        Pipeline.preset("development", transport="mock", template={"pins": {"a": 1}})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folders": "nowhere"}, "'nowhere' cannot be read"),
        ({"folders": [3]}, r"folders=3: give the path"),
        ({"folders": None}, r"folders=None: give the path"),
        ({"templates": None}, "None is no PromptTemplate with a name"),
        ({"pins": {"support/reply": "77"}}, "no version '77'"),
        ({"pins": {"other": "1"}}, "no prompt template 'other'"),
        ({"pins": ["x"]}, r"Template\(pins=.*a version for each"),
        ({"templates": [PromptTemplate.of("x")]}, "no PromptTemplate with a name"),
        ({"templates": [PromptTemplate.of("x", name="a"), "b"]}, "'b' is no PromptTempl"),
        ({"tag": ""}, r"Template\(tag=''"),
        ({"reload": 1}, r"Template\(reload=1\)"),
        ({"max_characters": 0}, r"Template\(max_characters=0\)"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str, folder: Path) -> None:
    """When the layer is made, with what to give instead."""
    with pytest.raises(ConfigurationError, match=words):
        Template(**{"folders": folder, **options})
