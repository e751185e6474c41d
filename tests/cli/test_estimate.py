"""`lamella estimate`: what requests would cost, before any is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot


def test_models_are_compared(lamella: Any) -> None:
    """Without an answer, as said, and at most: as the card says, or the command line."""
    done = lamella(
        "estimate", "-m", "gpt-4o-mini", "-m", "openai/gpt-4o", "--tokens", "1_200,300",
        "--calls", "1000",
    )  # fmt: skip
    assert done.code == 0
    # gpt-4o-mini: 1,000 x 1,200 x $0.15, 300 and 16,384 x $0.60; gpt-4o: $2.50 and $10
    assert done.out == snapshot("""\
model        provider  reads  writes         no answer  as said  at most   price
gpt-4o-mini  openai    1,200  300 to 16,384  $0.18      $0.36    $10.0104  cards
gpt-4o       openai    1,200  300 to 16,384  $3         $6       $166.84   cards
""")
    [found] = lamella(
        "estimate", "-m", "gpt-4o-mini", "--tokens", "1000", "--max-output-tokens", "100",
        "--service", "batch", "--json",
    ).json  # fmt: skip
    # 1,000 x 75, and 100 x 300 with them
    assert (found["least_nano"], found["expected"], found["worst_nano"]) == (75_000, None, 105_000)


def test_a_text_is_counted(lamella: Any, tmp_path: Path) -> None:
    """From a file or standard input; it says whether the count is an estimate."""
    file = tmp_path / "prompt.txt"
    file.write_text("word " * 100)
    [found] = lamella("estimate", "-m", "mock", "--file", str(file), "--json").json
    assert found["input_tokens"] >= 100
    [piped] = lamella(
        "estimate", "-m", "mock", "--file", "-", "--json", stdin=file.read_bytes()
    ).json
    assert piped == found
    [given] = lamella("estimate", "-m", "mock", *["word"] * 100, "--json").json
    assert abs(given["input_tokens"] - found["input_tokens"]) <= 1  # but for a space at the end
    [both] = lamella("estimate", "--json", "Sum up:", "-", "-m", "mock", stdin=b"word " * 100).json
    assert both["input_tokens"] > found["input_tokens"]
    lines = lamella("estimate", "-m", "claude-haiku-4-5", "--file", str(file)).out
    assert "about 1" in lines


def test_prices_of_ones_own_come_first(lamella: Any, tmp_path: Path) -> None:
    """Also of models that nobody else knows."""
    file = tmp_path / "prices.toml"
    file.write_text('[ours]\ninput = "10"\noutput = "20"\n')
    [found] = lamella(
        "estimate", "-m", "ours", "--tokens", "1000,1000", "--prices", str(file), "--json"
    ).json
    assert (found["expected_nano"], found["price_from"]) == (30_000_000, "own")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-m", "nope", "--tokens", "5"], "No price is known for the model 'nope'. State one"),
        (
            ["-m", "mock", "--tokens", "5", "--service", "gold"],
            "No price is known for service:gold",
        ),
        (["-m", "mock"], "either a prompt, --tokens or --file"),
        (
            ["-m", "mock"],
            'Write lamella estimate -m mock "Why is the sky blue?", --tokens 1200,300',
        ),
        (["-m", "mock", "--tokens", "5", "--file", "x"], "either a prompt, --tokens or --file"),
        (["-m", "mock", "--tokens", "5", "Why?"], "either a prompt, --tokens or --file"),
        (["-m", "mock", "Why?", "--file", "x"], "either a prompt, --tokens or --file"),
        (["-m", "mock", ""], "The prompt is empty, so there is nothing"),
        (["-m", "mock", "--tokens", "5,six"], "'5,six' is not one or two whole numbers"),
        (["-m", "mock", "--tokens", "-5"], "whole numbers"),
        (["-m", "mock", "--tokens", "5", "--calls", "0"], "--calls is 1 or more"),
        (["-m", "mock", "--file", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["-m", "mock", "--tokens", "5", "--prices", "nowhere.toml"], "cannot be read"),
        (["-m", "llama-3.3-70b-versatile", "--provider", "openai", "--tokens", "5"], "No price"),
        (["-m", "mock", "--tokens", "5", "--service", "warp"], "service:warp of the model 'mock'"),
        (
            ["-m", "mock", "--tokens", "5,9", "--max-output-tokens", "8"],
            "expects 9 tokens written, and --max-output-tokens allows 8 at most",
        ),
    ],
)
def test_what_cannot_be_estimated_is_said(lamella: Any, words: list[str], says: str) -> None:
    """With exit code 2, and what to write; a price that nobody knows is never nothing."""
    done = lamella("estimate", *words)
    assert done.code == 2
    assert says in " ".join(done.err.split())
