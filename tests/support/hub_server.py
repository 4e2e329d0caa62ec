"""A stand-in of the Hugging Face hub's HTTP API on this machine: as much of it as its own client asks for."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER = "hf_writer", "hf_reader"  # tokens
LIMIT = 3  # entries a page of a tree, so that pages are turned


@dataclass
class Repository:
    """Commits of one branch, oldest first: name -> files."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def add(self, files: dict[str, bytes], message: str) -> str:
        whole = {**(self.commits[-1][1] if self.commits else {}), **files}
        oid = sha1(f"{len(self.commits)} {message} {sorted(whole)}".encode()).hexdigest()
        self.commits.append((oid, whole))
        self.messages.append(message)
        return oid

    def files(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            return self.commits[-1][1]
        return next((files for oid, files in self.commits if oid == revision), None)


@dataclass
class Hub:
    """What the server knows; tests look into it and change it."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None  # every answer has it, where it is set
    asked: list[str] = field(default_factory=list)
    before_commit: Any = None  # called once before the next commit is looked at
    gated: bool = False


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub on a free port of 127.0.0.1."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        hub, length = self.state, int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        hub.asked.append(f"{self.command} {path}")
        if hub.status is not None:
            return self._send(hub.status, {"error": "as the test wants"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            assert sha256(body).hexdigest() == match[1]
            hub.uploads[match[1]] = body
            return self._send(200, {})
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit)/([^/]+)(?:/(.*))?)?", path)
        if match:
            name, action, revision = match[1], match[2] or "revision", match[3] or "main"
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, action, revision = match[1], "resolve", match[2]
        else:
            return self._send(404, {"error": f"no such address: {path}"})
        repository = hub.repositories.get(name)
        if repository is None or (repository.private and self._token() not in (WRITER, READER)):
            return self._send(401, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
        if hub.gated:
            return self._send(403, {"error": "Access is restricted"}, **{"X-Error-Code": "GatedRepo"})
        files = repository.files(revision)
        if files is None:
            return self._send(404, {"error": "Invalid rev id"}, **{"X-Error-Code": "RevisionNotFound"})
        if action == "revision":
            head = repository.commits[-1][0] if revision == "main" else revision
            return self._send(200, {"id": name, "sha": head, "private": repository.private, "siblings": []})
        if action == "tree":
            return self._tree(files, int(query.get("cursor", ["0"])[0]), path)
        if action == "preupload":
            return self._preupload(json.loads(body), files)
        if action == "commit":
            return self._commit(name, repository, body)
        return self._resolve(repository, revision, files.get(match[3]))

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.state.url}/{name}"
        if self._token() != WRITER:
            return self._send(403, {"error": "You don't have the rights to create a model under this namespace"})
        if name in self.state.repositories:
            return self._send(409, {"error": "You already created this model repo", "url": url})
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.state.repositories[name] = Repository(bool(private))
        self.state.repositories[name].add({".gitattributes": b"*.safetensors filter=lfs"}, "initial commit")
        return self._send(200, {"url": url})

    def _tree(self, files: dict[str, bytes], start: int, path: str) -> None:
        folders = {name.rpartition("/")[0] for name in files if "/" in name}
        entries: list[dict[str, Any]] = [{"type": "directory", "path": name, "oid": "0"} for name in sorted(folders)]
        entries += [
            {"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest()}
            for name, content in sorted(files.items())
        ]
        page, rest = entries[start : start + LIMIT], start + LIMIT < len(entries)
        link = {"Link": f'<{self.state.url}{path}?recursive=true&cursor={start + LIMIT}>; rel="next"'} if rest else {}
        self._send(200, page, **link)

    def _preupload(self, wanted: dict[str, Any], files: dict[str, bytes]) -> None:
        modes = [
            {
                "path": entry["path"],
                "uploadMode": "lfs" if entry["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for entry in wanted["files"]
        ]
        self._send(200, {"files": modes})

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.state.url}/lfs/{entry['oid']}"}}}
            for entry in wanted["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, repository: Repository, body: bytes) -> None:
        if self._token() != WRITER:
            return self._send(403, {"error": "You need write access"})
        if (meddle := self.state.before_commit) is not None:
            self.state.before_commit = None
            meddle()
        lines = [json.loads(line) for line in body.decode().splitlines() if line]
        head = next(line["value"] for line in lines if line["key"] == "header")
        if head.get("parentCommit") not in (None, repository.commits[-1][0]):
            return self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.uploads[value["oid"]]
        oid = repository.add(files, head["summary"])
        return self._send(200, {"commitOid": oid, "commitUrl": f"{self.state.url}/{name}/commit/{oid}"})

    def _resolve(self, repository: Repository, revision: str, content: bytes | None) -> None:
        if content is None:
            return self._send(404, {"error": "Entry not found"}, **{"X-Error-Code": "EntryNotFound"})
        head = repository.commits[-1][0] if revision == "main" else revision
        return self._send(200, content, **{"X-Repo-Commit": head, "ETag": f'"{sha256(content).hexdigest()}"'})

    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _chunks(self) -> bytes:
        """A body that comes in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: object, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
