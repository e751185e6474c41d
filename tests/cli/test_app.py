"""The program as a whole: help, exit codes, failures, and plugins' commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import fill
from typing import Any

import pytest
from inline_snapshot import snapshot

from lamella import AuthenticationError, LamellaError, QuotaError, RateLimitError, __version__
from lamella._registry import Registry, using
from lamella.cli._errors import EXIT_CODES, exit_code, paragraph

PLUGIN = """
def lamella_commands():
    return {
        "greet": "lamella_greetings:greet",
        "wait": "lamella_greetings:wait",
        "broken": "lamella_greetings:missing",
        "many": {"first": greet, "second": wait},
        "run": "lamella_greetings:greet",
    }

def greet(name: str, *, loud: bool = False) -> int:
    "Say hello."
    print(f"HELLO {name}" if loud else f"hello {name}")
    return 5

async def wait() -> None:
    "Do something that waits."
    print("waited")
"""


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin with commands, one of which is broken, and one of which has a name that is taken."""
    (tmp_path / "lamella_greetings.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lamella_greetings", raising=False)
    with using(Registry([EntryPoint("greetings", "lamella_greetings", "lamella")])):
        yield


def test_help(lamella: Any) -> None:
    """`--help` lists the commands and the exit codes, in plain text where there is no terminal."""
    done = lamella("--help")
    assert done.code == 0
    assert done.out == snapshot("""\
Usage: lamella COMMAND

Dependable calls to language models.

Exit codes:

  0    all is well
  1    the call failed, or the check did
  2    the command line, a preset or a file is wrong; nothing was sent
  3    the provider does not accept the key, or the account may not do this
  130  ended by Ctrl-C; 143 by SIGTERM, 141 because nobody reads the output

With --debug, anywhere on the line, failures show where they come from.

Commands:
  audit: Verify, prove, check, export, head, erase.
  budget: Show, set, unset.
  cache: Stats, list, purge, clear, warm.
  chat: Talk to a model: each line is a question, and all that was said goes along.
  costs: Show what has been spent: a table, and a bar for each line.
  estimate: Say what a request would cost before it is sent: without an answer, as said, at most.
  explain: Show a preset's layers, outermost first, and where it comes from.
  map: Ask many times: rows from a file, and an answer for each into another, in their order.
  mock: Serve the embedded provider over HTTP until Ctrl-C, in the words of many providers.
  models: List the models that are known: limits, modalities, and prices for a million tokens.
  plugins: List the plugins that are installed: what they contribute, and what is wrong with them.
  prompts: List, show, check.
  run: Ask once; the answer streams to standard output.
  scenarios: Play the failover scenarios: two providers on loopback sockets, one of which fails.
  simulate: Run a preset in virtual time under a load, against modelled providers, and report.
  test-config: Say what is set and what is missing for each transport and each preset of yours.
  trace: Draw a call that was written to a file with --trace FILE.json, or by trace.to_json().
  --help, -h: Display this message and exit.
  --version: Display application version.

""")


@pytest.mark.parametrize(
    "command", ["run", "map", "chat", "explain", "models", "plugins", "test-config", "mock"]
)
def test_each_command_explains_itself(lamella: Any, command: str) -> None:
    """Each command has a help of its own, with a sentence for each of its options."""
    done = lamella(command, "--help")
    assert done.code == 0
    assert f"Usage: lamella {command}" in done.out
    options = [line for line in done.out.splitlines() if line.startswith("  --")]
    assert options
    assert all(": " in line for line in options)


def test_without_arguments_it_shows_its_help(lamella: Any) -> None:
    """`lamella` alone is `lamella --help`."""
    assert lamella().out == lamella("--help").out


def test_version(lamella: Any) -> None:
    """`--version` is the distribution's."""
    assert lamella("--version").out.strip() == __version__


def told(lamella: Any, *arguments: str) -> str:
    """What a wrong command line is answered with."""
    done = lamella(*arguments)
    assert done.code == 2
    assert done.out == ""
    text: str = done.err
    return text


def test_wrong_command_lines_are_told_in_a_sentence(lamella: Any) -> None:
    """A misspelt option, an option without its value, and a command that there is not."""
    misspelt = told(lamella, "run", "hello", "--modle", "x")
    assert "--modle" in misspelt
    assert "Did you mean" in misspelt
    assert misspelt.endswith("See lamella run --help.\n")
    assert "--temperature" in told(lamella, "run", "hello", "--temperature", "warm")
    assert 'Did you mean "explain"?' in told(lamella, "explian")


def test_wrong_names_and_values_are_told_with_the_remedy(lamella: Any) -> None:
    """What is wrong with presets, transports, values and files, and what to write instead."""
    texts = [
        told(lamella, "run", "hello", "--preset", "prodution"),
        told(lamella, "run", "hello", "--transport", "opnai").partition(" Known are ")[0],
        told(lamella, "run", "hello", "--transport", "openai"),
        told(lamella, "run", "hello", "--temperature", "-1"),
        told(lamella, "run", "hello", "--config", "nowhere.toml"),
        told(lamella, "run"),
        told(lamella, "models", "--provider", "nobody").partition(" Known providers ")[0],
    ]
    assert "\n\n".join(fill(text, 90) for text in texts) == snapshot("""\
lamella: There is no preset 'prodution'. Did you mean 'production'? Known are cost, debug,
development, production, test.

lamella: Pipeline.preset('development'): transport: There is no transport 'opnai'. Did you
mean 'openai'?

lamella: The transport 'openai' has no default model. Add --model NAME; `lamella models`
lists some.

lamella: temperature must be 0 or more, not -1.0.

lamella: nowhere.toml cannot be read: No such file or directory. Give the path of a file
that can be read.

lamella: There is nothing to ask. Write lamella run "Why is the sky blue?", or pipe text
in.

lamella: No model of 'nobody' is described.\
""")


def test_failed_calls_have_exit_codes() -> None:
    """1 for a call that failed, 3 where the key or the account is refused."""
    assert exit_code(RateLimitError("x")) == 1
    assert exit_code(OSError(2, "No such file")) == 1
    assert exit_code(AuthenticationError("x")) == 3
    assert exit_code(QuotaError("x")) == 3


def test_a_failure_is_one_paragraph() -> None:
    """The message, the hint, and what a person who asks for help will be asked for, once each."""
    error = RateLimitError("Too fast.", hint="Wait.", retry_after=2.0, request_id="req_1")
    assert fill(paragraph(error), 90) == snapshot(
        "Too fast. Wait. (It may work again in 2 s.) (Request req_1.)"
    )
    assert paragraph(LamellaError("Request req_1 failed.", request_id="req_1")) == snapshot(
        "Request req_1 failed."
    )
    assert paragraph(FileNotFoundError(2, "No such file", "x.txt")) == snapshot(
        "x.txt: No such file."
    )
    assert fill(paragraph(RuntimeError("odd")), 80) == snapshot("""\
An error that the library does not know: RuntimeError: odd. Add --debug to see
where it comes from.\
""")


def test_a_group_of_one_is_told_as_that_one() -> None:
    """What went wrong matters, and not that it happened in a task of its own."""
    group = ExceptionGroup("tasks", [ExceptionGroup("inner", [RateLimitError("Too fast.")])])
    assert paragraph(group) == "Too fast."


def test_debug_shows_where_it_comes_from(lamella: Any) -> None:
    """`--debug`, anywhere before `--`, adds the traceback; without it there is none."""
    assert "Traceback" not in lamella("run", "x", "--transport", "nope").err
    for arguments in (
        ("--debug", "run", "x", "--transport", "nope"),
        ("run", "x", "--transport", "nope", "--debug"),
    ):
        done = lamella(*arguments)
        assert done.code == 2
        assert "Traceback (most recent call last)" in done.err


def test_debug_behind_two_dashes_is_part_of_the_prompt(lamella: Any) -> None:
    """Behind `--` everything is prompt."""
    done = lamella("run", "--model", "mock", "--", "--debug", "mode?")
    assert done.code == 0
    assert "--debug mode?" in done.out


def test_missing_extra_is_one_sentence(processes: Any) -> None:
    """Without the extra the program names the command that installs it, and exits with 2."""
    code = (
        "import sys; sys.modules['cyclopts'] = None\nfrom lamella.cli import main\nsys.exit(main())"
    )
    done = processes.end(processes.start("--help", code=code))
    assert done.code == 2
    assert done.out == ""
    assert done.err == snapshot(
        'lamella: The command line needs packages that are missing: pip install "lamella[cli]"\n'
    )


def test_help_imports_nothing_heavy(processes: Any) -> None:
    """Looking things up loads no SDK, no HTTP library, and not what only a conversation needs."""
    code = (
        "import sys\nfrom lamella.cli import main\nassert main(sys.argv[1:]) == 0\n"
        "heavy = {'openai', 'httpx', 'httpx2', 'prompt_toolkit', 'cattrs', 'tenacity'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        assert processes.end(processes.start(*arguments, code=code)).err == "set()\n"


@pytest.mark.usefixtures("greetings")
def test_plugins_bring_commands(lamella: Any) -> None:
    """A plugin's function is a command: its parameters are options, an int its exit code."""
    done = lamella("greet", "world", "--loud")
    assert (done.code, done.out) == (5, "HELLO world\n")
    done = lamella("wait")
    assert (done.code, done.out) == (0, "waited\n")


@pytest.mark.usefixtures("greetings")
def test_plugins_bring_commands_with_commands_of_their_own(lamella: Any) -> None:
    """A mapping of functions is a command that has them as its own, and lists them in its help."""
    assert "many: First, second." in lamella("--help").out
    assert "first: Say hello." in lamella("many", "--help").out
    assert lamella("many", "first", "world").out == "hello world\n"
    assert lamella("many", "second").out == "waited\n"
    assert lamella("many", "third").code == 2


@pytest.mark.usefixtures("greetings")
def test_a_broken_command_breaks_no_other(lamella: Any) -> None:
    """It is listed as what it is, and says what is wrong when it is run."""
    done = lamella("--help")
    assert done.code == 0
    assert "greet: Say hello." in done.out
    assert "broken: Cannot be loaded" in done.out
    done = lamella("broken", "--anything")
    assert done.code == 2
    assert "'broken'" in done.err
    assert "lamella_greetings" in done.err


@pytest.mark.usefixtures("greetings")
def test_a_plugin_does_not_replace_a_command(lamella: Any) -> None:
    """The program's own names stay its own, and `lamella plugins` says which are hidden."""
    assert "Ask once" in lamella("run", "--help").out
    assert "Its command 'run' is not reached" in lamella("plugins").err


def test_everything_is_documented(lamella: Any) -> None:
    """docs/cli.md names every command, every option and every exit code."""
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in ("run", "map", "chat", "explain", "models", "plugins", "test-config", "mock"):
        assert f"\n## lamella {command}\n" in page
        options = re.findall(r"^  (--[a-z-]+)", lamella(command, "--help").out, re.MULTILINE)
        assert [option for option in options if f"`{option}" not in page] == []
    codes = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "130", "141", "143"]
    assert all(code in EXIT_CODES for code in codes)
