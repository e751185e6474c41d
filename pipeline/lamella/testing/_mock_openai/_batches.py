"""OpenAI's files and batches on the mock server, and what goes wrong with a batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from json import loads
from typing import Any, Final, cast

import attrs

from lamella._mock_rejections import Rejection
from lamella.testing._http_framing import Reply
from lamella.testing._http_wire import Received
from lamella.testing._mock_batches import MockBatches
from lamella.testing._mock_openai._requests import JSON
from lamella.testing._mock_replies import CREATED, plain
from lamella.testing._mock_sse import json_text

APIS: Final = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/embeddings"})

_FILES = re.compile(r"/v1/files(?:/(?P<id>[^/]+))?(?P<content>/content)?")
_BATCHES = re.compile(r"/v1/batches(?:/(?P<id>[^/]+))?(?P<cancel>/cancel)?")
_DISPOSITION = re.compile(rb'name="(?P<name>[^"]*)"')


@attrs.define
class _Batch:
    """A batch: what is said of it, and how far it is."""

    document: JSON
    lines: list[JSON]
    looks: int = 0
    output: list[JSON] = attrs.field(factory=list[JSON])
    errors: list[JSON] = attrs.field(factory=list[JSON])


@attrs.define
class Batches:
    """The files and batches of one server.

    Attributes:
        plan: How they go.
        answer: The status and the body of the answer to a request: an API and a body.
    """

    plan: MockBatches
    answer: Callable[[Received, str, JSON], tuple[int, Any]]
    _files: dict[str, bytes] = attrs.field(init=False, factory=dict[str, bytes])
    _batches: dict[str, _Batch] = attrs.field(init=False, factory=dict[str, _Batch])

    def reply(self, received: Received, body: Any) -> Reply | None:
        """The reply to a request for files or batches; None for other addresses.

        Raises:
            Rejection: If a provider would not accept it.
        """
        method, path = received.method, received.path
        if found := _FILES.fullmatch(path):
            return self._file(received, found["id"], content=found["content"] is not None)
        if not (found := _BATCHES.fullmatch(path)):
            return None
        if found["id"] is None:
            return plain(self._create(body) if method == "POST" else self._list(received.query))
        batch = self._batches.get(found["id"])
        if batch is None:
            raise Rejection(404, None, f"No batch found with id {found['id']!r}.")
        if found["cancel"]:
            self._cancel(batch)
        else:
            self._look(received, batch)
        return plain(batch.document)

    # --- files -----------------------------------------------------------------------------------

    def _file(self, received: Received, name: str | None, *, content: bool) -> Reply:
        if name is None:
            if received.method != "POST":
                raise Rejection(405, "method_not_supported", "Files are not listed here.")
            return plain(self._uploaded(received))
        data = self._files.get(name)
        if data is None:
            raise Rejection(404, None, f"No such File object: {name}")
        if content:
            return Reply(200, {"Content-Type": "application/octet-stream"}, data)
        return plain(_file_document(name, data))

    def _uploaded(self, received: Received) -> JSON:
        fields = _form(received)
        if fields.get("purpose") != b"batch":
            raise Rejection(400, "invalid_value", "'purpose' is 'batch'.", "purpose")
        if "file" not in fields:
            raise Rejection(400, "missing_required_parameter", "There is no 'file'.", "file")
        return _file_document(self._keep(fields["file"]), fields["file"])

    def _keep(self, data: bytes) -> str:
        name = f"file-mock_{len(self._files) + 1}"
        self._files[name] = data
        return name

    # --- batches ---------------------------------------------------------------------------------

    def _create(self, body: Any) -> JSON:
        told: JSON = dict(cast("JSON", body)) if isinstance(body, dict) else {}
        data = self._files.get(str(told.get("input_file_id")))
        if data is None:
            raise Rejection(400, None, "Input file does not exist.", "input_file_id")
        if told.get("endpoint") not in APIS:
            raise Rejection(400, "invalid_value", "There is no such endpoint.", "endpoint")
        if told.get("completion_window") != "24h":
            raise Rejection(400, "invalid_value", "The window is '24h'.", "completion_window")
        name = f"batch_mock_{len(self._batches) + 1}"
        lines = [loads(line) for line in data.splitlines() if line.strip()]
        document = {
            "id": name, "object": "batch", "status": "validating", "created_at": CREATED,
            "endpoint": told["endpoint"], "input_file_id": told["input_file_id"],
            "completion_window": "24h", "output_file_id": None, "error_file_id": None,
            "errors": None, "metadata": told.get("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }  # fmt: skip
        batch = _Batch(document, lines)
        mistakes = self._mistakes(lines, told["endpoint"])
        self._batches[name] = batch
        if mistakes:
            document["status"] = "failed"
            document["errors"] = {"object": "list", "data": mistakes}
            batch.lines = []
        return document

    def _mistakes(self, lines: list[JSON], api: str) -> list[JSON]:
        plan, found = self.plan, list[JSON]()
        if plan.refused is not None:
            found.append(_mistake(plan.refused, "The batch is not accepted.", None))
        if not 0 < len(lines) <= plan.max_lines:
            found.append(_mistake("too_many_tasks", "The file has too many lines.", None))
        models = {str(line["body"].get("model")).partition(";")[0] for line in lines}
        if len(models) > 1:
            found.append(_mistake("mismatched_model", "A batch has one model.", 2))
        seen: set[str] = set()
        for number, line in enumerate(lines, 1):
            if line.get("url") != api or line.get("method") != "POST":
                found.append(_mistake("mismatched_endpoint", "It is another API's.", number))
            if line["custom_id"] in seen:
                found.append(_mistake("duplicate_custom_id", "The id is there twice.", number))
            seen.add(line["custom_id"])
            if number in plan.invalid and not self._batches:
                found.append(_mistake("invalid_request", plan.invalid[number], number))
        return found

    def _list(self, query: Mapping[str, str]) -> JSON:
        names = list(reversed(self._batches))
        if "after" in query:
            names = names[names.index(query["after"]) + 1 :] if query["after"] in names else []
        limit = int(query.get("limit", "20"))
        data = [self._batches[name].document for name in names[:limit]]
        return {"object": "list", "data": data, "has_more": len(names) > limit}

    def _look(self, received: Received, batch: _Batch) -> None:
        """A look at a batch brings it on."""
        status = batch.document["status"]
        if status in {"completed", "failed", "expired", "cancelled"}:
            return
        batch.looks += 1
        if status == "cancelling":
            self._end(batch, "cancelled")
            return
        if batch.looks <= self.plan.polls:
            batch.document["status"] = "in_progress"
            return
        for number, line in enumerate(batch.lines, 1):
            self._handle(received, batch, number, line)
        self._end(batch, "expired" if set(self.plan.expired) & set(range(1, len(batch.lines) + 1))
                  else "completed")  # fmt: skip

    def _cancel(self, batch: _Batch) -> None:
        status = batch.document["status"]
        if status in {"completed", "failed", "expired", "cancelled"}:
            message = f"Cannot cancel a batch with status {status!r}."
            raise Rejection(409, None, message)
        batch.document["status"] = "cancelling"

    def _handle(self, received: Received, batch: _Batch, number: int, line: JSON) -> None:
        if number in self.plan.missing:
            return
        told: JSON = {"id": f"batch_req_mock_{number}", "custom_id": line["custom_id"]}
        if number in self.plan.expired:
            error = {"code": "batch_expired", "message": "This request could not be executed."}
            batch.errors.append({**told, "response": None, "error": error})
            return
        status, body = self.answer(received, line["url"], line["body"])
        response = {"status_code": status, "request_id": f"req_mock_line_{number}", "body": body}
        kept = batch.output if status < 300 else batch.errors
        kept.append({**told, "response": response, "error": None})

    def _end(self, batch: _Batch, status: str) -> None:
        document = batch.document
        document["status"] = status
        done, failed = len(batch.output), len(batch.errors)
        total = len(batch.lines)
        document["request_counts"] = {"total": total, "completed": done, "failed": failed}
        for name, lines in (("output", batch.output), ("error", batch.errors)):
            if lines:
                told = list(reversed(lines)) if self.plan.unordered else lines
                data = "".join([json_text(line) + "\n" for line in told]).encode()
                document[f"{name}_file_id"] = self._keep(data)


def _mistake(code: str, message: str, line: int | None) -> JSON:
    return {"code": code, "message": message, "line": line, "param": None}


def _file_document(name: str, data: bytes) -> JSON:
    return {
        "id": name, "object": "file", "bytes": len(data), "created_at": CREATED,
        "filename": "mock.jsonl", "purpose": "batch", "status": "processed",
    }  # fmt: skip


def _form(received: Received) -> dict[str, bytes]:
    """The fields of a form with files."""
    kind = received.headers.get("content-type", "")
    _, _, boundary = kind.partition("boundary=")
    if not kind.startswith("multipart/form-data") or not boundary:
        raise Rejection(400, None, "The body is not multipart/form-data.")
    found: dict[str, bytes] = {}
    for part in received.body.split(b"--" + boundary.strip('"').encode()):
        head, blank, data = part.partition(b"\r\n\r\n")
        named = _DISPOSITION.search(head)
        if blank and named is not None:
            found[named["name"].decode()] = data.removesuffix(b"\r\n")
    return found
