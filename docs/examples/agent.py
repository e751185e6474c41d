"""An agent in the terminal: a pipeline with tools, and a conversation that outlives the program.

    python agent.py                        # the embedded provider: name a tool to have it called
    python agent.py openai gpt-4o-mini     # a model, with OPENAI_API_KEY

Go on where you stopped by starting it again; `/new` begins anew, `/undo` takes a turn back. Notes
and the conversation are in the folder `agent-files`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from lamella import (
    ApprovalRequired,
    Conversation,
    LamellaError,
    Layer,
    Pipeline,
    SQLiteConversations,
    TextDelta,
    Turn,
)
from lamella_middlewares import Cost, Deadline, Retry, Timeout, Tools
from lamella_middlewares.tools import tool

INSTRUCTIONS = "You keep the user's notes. Say what the tools have told you, and nothing else."


def tools_in(folder: Path) -> Tools:
    """What the agent can do. A name is a file's, and leads nowhere else."""

    def place(name: str) -> Path:
        return folder / f"{Path(name).stem}.txt"

    @tool(idempotent=True)
    def list_notes() -> list[str]:
        """List the names of all notes."""
        return sorted(path.stem for path in folder.glob("*.txt"))

    @tool(idempotent=True)
    def read_note(name: str) -> str:
        """Read a note.

        Args:
            name: Its name.
        """
        return place(name).read_text()

    @tool(approve="ask")
    def write_note(name: str, text: str) -> str:
        """Write a note, in the place of one with the same name.

        Args:
            name: Its name.
            text: What it says.
        """
        place(name).write_text(text)
        return f"Written: {place(name).stem}."

    return Tools([list_notes, read_note, write_note], max_steps=8, timeout=10)


async def turn(agent: Conversation, said: str, ask: Callable[[str], str]) -> None:
    """One turn; it may stop several times for somebody to agree."""
    block = agent.say_stream(said)
    while True:
        try:
            async with block as response:
                async for event in response:
                    if isinstance(event, TextDelta):
                        print(event.text, end="", flush=True)
                    elif isinstance(event, Turn):
                        names = [call.name for call in event.messages[0].tool_calls]
                        print(f"[{', '.join(names) or 'done'}]")
            print()
            return
        except ApprovalRequired as error:
            waiting = error.calls
        yes: list[str] = []
        for identity, call in waiting.items():
            print(f"\nMay I? {call.name}({call.arguments})")
            if await anyio.to_thread.run_sync(ask, "yes or no: ") == "yes":
                yes.append(identity)
        no = {identity: "The user said no." for identity in waiting if identity not in yes}
        block = agent.resume_stream(approvals=yes, declined=no)


async def main(
    transport: str = "mock",
    model: str = "mock",
    *,
    folder: Path = Path("agent-files"),
    ask: Callable[[str], str] = input,
) -> None:
    """Talk until the input ends."""
    await anyio.Path(folder).mkdir(exist_ok=True)
    store = SQLiteConversations(folder / "conversations.db")
    limits = Timeout(first_event=20, idle=20)
    layers: list[Layer] = [Deadline(120), tools_in(folder), Retry(), limits, Cost()]
    async with Pipeline(layers, transport) as pipeline:
        agent = await Conversation.open(
            pipeline, store, "notes", system=INSTRUCTIONS, model=model, keep_partial=True
        )
        print(f"{len(agent.messages)} messages so far. Ctrl-D leaves.")
        while True:
            try:
                said = (await anyio.to_thread.run_sync(ask, "> ")).strip()
            except EOFError:
                break
            if said in {"/new", "/undo"}:
                agent.clear() if said == "/new" else agent.undo()
                await agent.save()  # a turn is saved by itself, and this is none
            elif said:
                try:
                    await turn(agent, said, ask)
                except LamellaError as error:
                    print(f"\n{type(error).__name__}: {error}")
    await store.aclose()


if __name__ == "__main__":
    anyio.run(partial(main, *sys.argv[1:3]))
