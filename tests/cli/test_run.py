"""`lamella run`: what goes in, what comes out, and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

ANSWER = "mock: say Because of Rayleigh.\nWhy is the sky blue?"


def test_the_answer_is_all_of_standard_output(lamella: Any) -> None:
    """The answer alone, as plain text; records of the log go to standard error."""
    done = lamella("run", ANSWER)
    assert done.code == 0
    assert done.out == "Because of Rayleigh.\n"
    assert "outcome=complete" in done.err


def test_nothing_is_coloured_without_a_terminal(lamella: Any) -> None:
    """There are no escape codes in what is piped on, the drawing and the help included."""
    for arguments in (
        ["run", ANSWER, "--trace"],
        ["run", "--help"],
        ["explain"],
        ["models"],
        ["plugins"],
        ["test-config"],
    ):
        done = lamella(*arguments)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err


def test_streamed_and_whole_are_the_same(lamella: Any) -> None:
    """`--no-stream` changes when the answer is shown, and not what it is."""
    assert lamella("run", "hello").out == lamella("run", "hello", "--no-stream").out


def test_words_are_joined(lamella: Any) -> None:
    """Quotes are not needed."""
    assert lamella("run", "mock:", "say", "two", "words").out == "two words\n"


def test_standard_input_is_the_prompt(lamella: Any) -> None:
    """Without words all of it, and a dash among words stands for it."""
    assert lamella("run", stdin=b"mock: say piped\n").out == "piped\n"
    assert lamella("run", "-", stdin=b"mock: say dashed").out == "dashed\n"
    assert lamella("run", "mock: say", "-", "too", stdin=b"this\n").out == "this too\n"


def test_standard_input_is_left_alone_where_words_are_given(lamella: Any) -> None:
    """A program that runs under another does not wait for what nobody will write."""
    assert lamella("run", "mock: say words", stdin=b"not this").out == "words\n"


@pytest.mark.parametrize("given", [b"", b" \n\t"])
def test_an_empty_prompt_is_refused(lamella: Any, given: bytes) -> None:
    """Nothing is sent where there is nothing to ask."""
    done = lamella("run", stdin=given)
    assert done.code == 2
    assert done.told() == "lamella: Standard input is empty, so there is nothing to ask."


def test_standard_input_that_is_no_text_is_refused(lamella: Any) -> None:
    """The place is told, and nothing of what stood there."""
    done = lamella("run", stdin=b"hello \xff\xfe")
    assert done.code == 2
    assert "no utf-8 text: byte 7" in done.told()


def test_arguments_are_utf_8_whatever_the_locale(lamella: Any) -> None:
    """In the locale C the shell's letters come as bytes; what is no UTF-8 is refused."""
    assert "“Grüße”" in lamella("run", "Gr\udcc3\udcbc\udcc3\udc9fe").out
    for wrong in (["\udcff"], ["hi", "--system", "\udcff"]):
        done = lamella("run", *wrong)
        assert done.code == 2
        assert done.told() == "lamella: The command line is no UTF-8 text."


@pytest.mark.parametrize(("given", "code"), [("é".encode(), 0), (b"\xff", 2)])
def test_standard_input_in_the_locale_c_is_utf_8(
    processes: Any, tmp_path: Path, given: bytes, code: int
) -> None:
    """Letters arrive as they are, and what is no text is refused there as well."""
    file = tmp_path / "prompt.txt"
    file.write_bytes(given)
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    with file.open("rb") as prompt:
        done = processes.end(processes.start("run", "--json", environment=locale, stdin=prompt))
    assert done.code == code
    assert code or "“é”" in done.json["text"]


def test_options_reach_the_request(lamella: Any) -> None:
    """Model, instructions, temperature and the bound on tokens are the request's."""
    done = lamella(
        "run", "hello", "--json", "--model", "mock-small", "--system", "Be brief.",
        "--temperature", "0.5", "--max-output-tokens", "3",
    )  # fmt: skip
    assert done.code == 0
    assert done.json["model"] == "mock-small"
    assert done.json["finish_reason"] == "length"
    assert done.json["usage"]["output_tokens"] == 3


def test_an_answer_that_was_cut_says_so(lamella: Any) -> None:
    """An answer that ends at its limit of tokens is followed by a remark."""
    done = lamella("run", "hello", "--max-output-tokens", "3")
    assert done.code == 0
    assert "limit of tokens" in done.told()


def test_json_is_one_object(lamella: Any) -> None:
    """`--json` prints text, usage, cost, why it ended, model, attempts and notes, once."""
    done = lamella("run", ANSWER, "--json")
    found = done.json
    assert (found["text"], found["finish_reason"]) == ("Because of Rayleigh.", "stop")
    assert found["error"] is None
    assert found["cost"]["currency"] == "USD"
    assert found["usage"]["total_tokens"] == (
        found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
    )
    [attempt] = found["attempts"]
    assert (attempt["outcome"], attempt["provider"]) == ("complete", "mock")
    assert sorted(found) == snapshot(
        [
            "attempts",
            "call_id",
            "cost",
            "error",
            "finish_reason",
            "layers",
            "model",
            "notes",
            "refusal",
            "seconds",
            "served_by",
            "text",
            "usage",
        ]
    )


def test_json_of_a_failure_has_the_same_names(lamella: Any) -> None:
    """A failed call is one object too, with the error in it and what had arrived."""
    whole = lamella("run", ANSWER, "--json").json
    done = lamella("run", "hello", "--json", "--model", "mock;status=401")
    assert done.code == 3
    assert sorted(done.json) == sorted(whole)
    assert done.json["error"]["type"] == "AuthenticationError"
    assert done.json["error"]["status"] == 401
    assert done.json["error"]["exit_code"] == 3
    assert [attempt["outcome"] for attempt in done.json["attempts"]] == ["failed"]
    done = lamella("run", "hello", "--json", "--model", "mock;truncate=5")
    assert done.code == 1
    assert done.json["error"]["type"] == "StreamTruncated"
    assert done.json["text"]


def test_json_of_a_call_that_was_never_begun(lamella: Any) -> None:
    """What is wrong with the configuration is told, and there is no object to print."""
    done = lamella("run", "hello", "--json", "--transport", "nope")
    assert (done.code, done.out) == (2, "")


def test_json_keeps_letters_and_survives_what_is_none(lamella: Any) -> None:
    """Letters are printed as they are, and half of a surrogate pair is escaped."""
    assert "grün" in lamella("run", "mock: say grün", "--json").out
    found = lamella("run", "mock: say x", "--json", "--model", "mock\ud800")
    assert found.code in {0, 1}
    assert found.json


@pytest.mark.parametrize(
    ("model", "code", "error"),
    [
        ("mock;status=401", 3, "401"),
        ("mock;status=400", 1, "400"),
        ("mock;truncate=5", 1, "terminal signal"),
    ],
)
def test_failures_have_exit_codes_and_a_paragraph(
    lamella: Any, model: str, code: int, error: str
) -> None:
    """The exit code tells what to do about it, the paragraph what happened."""
    done = lamella("run", "hello", "--model", model)
    assert done.code == code
    [paragraph] = done.told().splitlines()
    assert paragraph.startswith("lamella: ")
    assert error in paragraph


def test_what_had_arrived_stays(lamella: Any) -> None:
    """The part of the answer that came before the failure is printed, and ends its line."""
    whole = lamella("run", "hello").out
    done = lamella("run", "hello", "--model", "mock;truncate=8")
    assert done.code == 1
    assert done.out.endswith("\n")
    assert whole.startswith(done.out.rstrip("\n"))


def _calm(drawn: str) -> str:
    """A drawing without what differs from run to run."""
    drawn = re.sub(r"call \w{8}", "call 01234567", drawn)
    drawn = re.sub(r"req_\w+", "req_1", drawn)
    drawn = re.sub(r"(?<= )[=.-]+(?= )", "--", drawn)
    drawn = re.sub(r"@?\d+(\.\d+)? (us|ms|s)\b", "0 s", drawn)
    return re.sub(r" +", " ", drawn)


def test_trace_draws_the_onion(lamella: Any) -> None:
    """After the answer, on standard error: the call, each layer, and the attempt inside them."""
    done = lamella("run", ANSWER, "--trace")
    assert done.out == "Because of Rayleigh.\n"
    assert _calm(done.told()) == snapshot("""\
call 01234567 complete 0 s 16 tokens in, 4 out $0.000032
 log -- 0 s
 deadline -- 0 s
 retry -- 0 s
 timeout -- 0 s
 -> mock -- 0 s complete, first event after 0 s, $0.000032
 cost -- 0 s\
""")


def test_trace_draws_failures_with_their_attempts_and_waits(lamella: Any, tmp_path: Path) -> None:
    """A call that failed is drawn too: attempts, what each ended with, and the waits between."""
    (tmp_path / "lamella.toml").write_text(
        """
        [presets.stubborn]
        transport = "mock"
        layers = [
            { use = "retry", attempts = 2, base = 0.001 }, { use = "cost", unknown = "note" },
        ]
        """
    )
    done = lamella("run", "x", "--preset", "stubborn", "--model", "mock;status=500", "--trace")
    assert done.code == 1
    *drawn, paragraph = _calm(done.told()).splitlines()
    assert paragraph.endswith("(2 attempts were made.)")
    assert "\n".join(drawn) == snapshot("""\
call 01234567 failed 0 s $0
 retry -- 0 s raised server_error
 -> mock -- 0 s failed, 500, ServerError, $0
 cost -- 0 s raised server_error
 wait -- 0 s reason=server_error error=ServerError status=500 code=server_error
 -> mock /try2 -- 0 s failed, 500, ServerError, $0
 cost -- 0 s raised server_error
 @ retry.gave_up 0 s why=attempts error=ServerError status=500 code=server_error\
""")


def test_presets_come_from_the_file(lamella: Any, tmp_path: Path) -> None:
    """lamella.toml here, the file that `--config` or LAMELLA_CONFIG names; its transport holds."""
    text = """
    [presets.mine]
    layers = []
    transport = { use = "mock", model = "of-the-file" }
    """
    (tmp_path / "elsewhere.toml").write_text(text)
    done = lamella("run", "x", "--json", "-p", "mine", "-c", "elsewhere.toml")
    assert done.json["model"] == "of-the-file"
    assert lamella("run", "x", "-p", "mine").code == 2
    (tmp_path / "lamella.toml").write_text(text)
    assert lamella("run", "x", "--json", "-p", "mine").json["model"] == "of-the-file"


def test_a_request_can_say_whose_it_is(lamella: Any, tmp_path: Path) -> None:
    """A preset with a cache asks for that; `--tenant` says it."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.kept]\ntransport = "mock"\n'
        'layers = [{ use = "cache", store = { use = "sqlite", path = "kept.db" } }]\n'
    )
    ask = ("run", "x", "--json", "-p", "kept", "--temperature", "0")
    refused = lamella(*ask)
    assert refused.code == 1
    assert "tenant" in refused.json["error"]["message"]
    done = [lamella(*ask, "--tenant", whose) for whose in ("acme", "globex", "acme")]
    assert [len(one.json["attempts"]) for one in done] == [1, 1, 0]


def test_the_environment_names_the_preset(
    lamella: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LAMELLA_ENV is what is meant without `--preset`."""
    (tmp_path / "lamella.toml").write_text(
        '[presets.mine]\nlayers = []\ntransport = { use = "mock", model = "named" }\n'
    )
    monkeypatch.setenv("LAMELLA_ENV", "mine")
    assert lamella("run", "x", "--json").json["model"] == "named"


def test_keys_that_happen_to_be_set_do_not_make_a_first_try_cost(
    lamella: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody has named a preset or a transport, the embedded provider answers."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-set")
    assert lamella("run", "hello", "--json").json["served_by"] == "mock"


def test_characters_that_the_output_lacks_are_no_failure(processes: Any) -> None:
    """In an encoding without them they become question marks."""
    process = processes.start(
        "run", "mock: say snow ☃", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    )
    done = processes.end(process)
    assert (done.code, done.out) == (0, "snow ?\n")
