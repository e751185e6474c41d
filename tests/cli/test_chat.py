"""`lamella chat`: from a pipe, and at a terminal."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from lamella import Conversation, Message, Pipeline
from lamella.cli._chat_input import history_file

INTERRUPT, END = b"\x03", b"\x04"

PROMPT = b"\x1b[?2004h"
"""What the terminal is told when a line may be typed."""


def saved(folder: Path) -> tuple[Message, ...]:
    """What `/save talk.json` has written, as a program loads it, with the instructions."""
    talk = Conversation.load_sync(Pipeline([], "mock"), folder / "talk.json")
    assert talk.branches == ()
    return (*(() if talk.system is None else (talk.system,)), *talk.messages)


def test_each_line_is_a_question(lamella: Any) -> None:
    """Without a terminal the lines come from standard input; answers are apart by empty lines."""
    done = lamella("chat", stdin=b"mock: say one\n\nmock: say two")
    assert done.code == 0
    assert done.out == "one\n\ntwo\n\n"


def test_what_was_said_goes_along(lamella: Any, tmp_path: Path) -> None:
    """The conversation so far is part of each question, and can be saved."""
    done = lamella(
        "chat", "--system", "Be kind.", stdin=b"mock: say one\nmock: say two\n/save talk.json\n"
    )
    assert done.code == 0
    said = saved(tmp_path)
    assert [message.role for message in said] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert said[2].text == "one"


def test_clear_forgets(lamella: Any, tmp_path: Path) -> None:
    """After /clear the conversation begins again."""
    lamella("chat", stdin=b"mock: say one\n/clear\nmock: say two\n/save talk.json\n")
    said = saved(tmp_path)
    assert [message.text for message in said] == ["mock: say two", "two"]


def test_saving_as_markdown_replaces_only_what_it_has_written(lamella: Any, tmp_path: Path) -> None:
    """A file that was there before stays as it is; the conversation's own is brought up to date."""
    (tmp_path / "there.md").write_text("precious")
    done = lamella(
        "chat", stdin=b"mock: say one\n/save there.md\n/save new.md\nmock: say two\n/save new.md\n"
    )
    assert (tmp_path / "there.md").read_text() == "precious"
    assert "there.md is there already" in done.err
    assert (tmp_path / "new.md").read_text() == (
        "## user\n\nmock: say one\n\n## assistant\n\none\n\n"
        "## user\n\nmock: say two\n\n## assistant\n\ntwo\n"
    )


def test_commands_change_how_is_asked(lamella: Any) -> None:
    """/model and /system show and set what the next question goes out with."""
    done = lamella(
        "chat",
        stdin=b"/model\n/model mock-small\n/model default\n"
        b"/system\n/system Be brief.\n/system off\n",
    )
    assert done.err.splitlines() == [
        "Model: the default of the transport",
        "Model: mock-small",
        "Model: the default of the transport",
        "There are no instructions.",
        "Instructions: Be brief.",
        "There are no instructions.",
    ]


def test_trace_is_drawn_on_request(lamella: Any) -> None:
    """/trace draws the latest call; /trace on draws each."""
    done = lamella("chat", stdin=b"/trace\nmock: say one\n/trace\n/trace on\nmock: say two\n")
    assert "There has been no call yet." in done.err
    assert done.err.count("-> mock") == 2


def test_help_quit_and_what_is_no_command(lamella: Any) -> None:
    """/help lists all commands, /quit leaves, a misspelt one is answered with the right one."""
    done = lamella("chat", stdin=b"/help\n/modle x\n//help\n/quit\nmock: say never\n")
    assert done.code == 0
    for command in ("/clear", "/help", "/model", "/quit", "/save", "/system", "/trace"):
        assert command in done.err
    assert "Did you mean '/model'?" in done.err
    assert "/help" in done.out  # two slashes: a question that begins with one
    assert "never" not in done.out


def test_a_failed_answer_does_not_end_it(lamella: Any, tmp_path: Path) -> None:
    """The failure is told, its question is forgotten, and its exit code is the program's."""
    done = lamella(
        "chat",
        stdin=b"/model mock;status=401\nlost\n/model mock\nmock: say kept\n/save talk.json\n",
    )
    assert done.code == 3
    assert "lamella: mock answered with status 401" in done.err
    said = saved(tmp_path)
    assert [message.text for message in said] == ["mock: say kept", "kept"]


def test_what_had_come_of_an_answer_is_kept(lamella: Any, tmp_path: Path) -> None:
    """An answer that was cut is part of the conversation, so that it can be gone on with."""
    done = lamella("chat", "--model", "mock;truncate=8", stdin=b"hello\n/save talk.json\n")
    assert done.code == 1
    said = saved(tmp_path)
    assert [message.role for message in said] == ["user", "assistant"]
    assert said[1].text == done.out.strip()


def test_lines_may_come_from_a_file(processes: Any, tmp_path: Path) -> None:
    """Standard input may be a file, which nothing can wait for."""
    (tmp_path / "lines").write_bytes(b"mock: say one\r\nmock: say two")
    with (tmp_path / "lines").open("rb") as lines:
        done = processes.end(processes.start("chat", stdin=lines))
    assert (done.code, done.out) == (0, "one\n\ntwo\n\n")


def test_wrong_options_are_told_before_the_first_question(lamella: Any) -> None:
    """A temperature out of range is no question's fault."""
    done = lamella("chat", "--temperature", "-1", stdin=b"hello\n")
    assert (done.code, done.out) == (2, "")


# --- at a terminal ----------------------------------------------------------------------------


def test_a_conversation_at_a_terminal(terminal: Any, tmp_path: Path) -> None:
    """Lines are typed and answered; Ctrl-D leaves; what was typed is kept for its owner alone."""
    chat = terminal("chat", "--model", "mock")
    chat.expect(b"Ctrl-D leaves.")
    chat.expect(PROMPT)
    chat.type(b"mock: say 4711 it is\r")
    chat.expect(b"4711 it is\r\n")
    chat.expect(PROMPT)
    chat.type(END)
    assert chat.end() == 0
    history = tmp_path / "state" / "lamella" / "chat_history"
    assert "mock: say 4711 it is" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_nothing_is_kept_if_nothing_is_to_be(terminal: Any, tmp_path: Path) -> None:
    """`--no-history` leaves no file."""
    chat = terminal("chat", "--no-history")
    chat.expect(PROMPT)
    chat.type(b"/quit\r")
    assert chat.end() == 0
    assert not (tmp_path / "state").exists()


def test_a_user_without_a_home_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a mere number: that is no failure."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert history_file() is None


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Any, tmp_path: Path) -> None:
    """What had come is kept, and the conversation goes on."""
    chat = terminal("chat", "--model", "mock;stall_at=8")
    chat.expect(PROMPT)
    chat.type(b"hello\r")
    chat.expect(b"message was")
    chat.type(INTERRUPT)
    chat.expect(b"(Stopped.)")
    chat.expect(PROMPT)
    chat.type(b"/model mock\r")
    chat.expect(b"Model: mock")
    chat.expect(PROMPT)
    chat.type(b"mock: say on we go\r")
    chat.expect(b"on we go\r\n")
    chat.expect(PROMPT)
    chat.type(b"/save talk.json\r")
    chat.expect(b"4 messages")
    chat.expect(PROMPT)
    chat.type(END)
    assert chat.end() == 0
    said = saved(tmp_path)
    assert said[1].text.startswith("Your message was")


def test_a_question_may_have_several_lines(terminal: Any) -> None:
    """Alt-Enter begins a new line, and what is pasted stays one question."""
    chat = terminal("chat")
    chat.expect(PROMPT)
    chat.type(b"\x1b[200~mock: say pasted\nand more\x1b[201~\x1b\rtyped\r")
    chat.expect(b"pasted\r\n")
    chat.expect(PROMPT)
    chat.type(b"/trace\r")
    chat.expect(b"complete")
    chat.expect(PROMPT)
    chat.type(END)
    assert chat.end() == 0


def test_ctrl_c_at_the_prompt_clears_the_line(terminal: Any) -> None:
    """It does not leave; it says what does."""
    chat = terminal("chat")
    chat.expect(PROMPT)
    chat.type(b"never mind")
    chat.expect(b"never mind")
    chat.type(INTERRUPT)
    chat.expect(b"(Ctrl-D leaves.)")
    chat.expect(PROMPT)
    chat.type(END)
    assert chat.end() == 0


def test_the_answer_cannot_steer_the_terminal(terminal: Any) -> None:
    """Escape codes in an answer are shown as what they are: no text."""
    chat = terminal("run", "mock: say \x1b]0;title\x07 end")
    chat.expect("\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER} end".encode())
    assert chat.end() == 0
    assert b"\x1b]0;title" not in chat.seen


def test_a_first_run_at_a_terminal(terminal: Any) -> None:
    """The answer, then the drawing in colour, and how to ask a model."""
    run = terminal("run", "Why is the sky blue?", "--trace")
    run.expect(b"Why is the sky blue?")
    run.expect(b"outcome")
    run.expect("━".encode())
    run.expect(b"-> mock")
    run.expect(b"--transport openai")
    assert run.end() == 0
