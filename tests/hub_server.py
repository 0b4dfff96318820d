"""A stand-in for the Hugging Face Hub on loopback: as much of its protocol as models need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"
LARGE = 20_000  # bytes from which a file goes to the store for large files


@dataclass
class Repository:
    """A model repository: its branches, and the files of each commit."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Make ``files`` the contents of a branch."""
        digest = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = files
        self.branches[branch] = digest
        return digest


class HubServer:
    """A hub whose address is :attr:`url`; requests are counted in :attr:`log`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.log: list[str] = []
        self.failure = 0
        """status that every request is answered with, if not 0"""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer nothing any more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Any) -> None:
        """Answer one request."""
        size = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(size) if size else _chunks(request)
        path = unquote(urlsplit(request.path).path)
        self.log.append(f"{request.command} {path}")
        status, headers, content = self._reply(request, path, body)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def _reply(self, request: Any, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.failure:
            return self.failure, {}, b"{}"
        parts = path.strip("/").split("/")
        allowed = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if request.command in ("POST", "PUT") and parts[0] != "store" and not allowed:
            return 401, {}, b"{}"
        match parts:
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                if name in self.repositories:
                    return 409, {}, _json({"url": f"{self.url}/{name}"})
                self.repositories[name] = Repository(
                    private=bool(wanted.get("private")) or wanted.get("visibility") == "private"
                )
                self.repositories[name].commit("main", {".gitattributes": b""})
                return 200, {}, _json({"url": f"{self.url}/{name}"})
            case ["api", "validate-yaml"]:
                return 200, {}, _json({"errors": [], "warnings": []})
            case ["store", oid]:
                self.stored[oid] = body
                return 200, {}, b""
            case ["api", "models", owner, name, *rest]:
                return self._of_model(f"{owner}/{name}", rest, body, allowed)
            case [owner, name, "resolve", revision, *rest]:
                return self._file(f"{owner}/{name}", revision, "/".join(rest), allowed)
            case [_, _, "info", "lfs", "objects", "batch"]:
                wanted = json.loads(body)["objects"]
                objects = [
                    {**each, "actions": {"upload": {"href": f"{self.url}/store/{each['oid']}"}}}
                    for each in wanted
                ]
                return 200, {}, _json({"transfer": "basic", "objects": objects})
        return 404, {}, b"{}"

    def _of_model(
        self, name: str, rest: list[str], body: bytes, allowed: bool
    ) -> tuple[int, dict[str, str], bytes]:
        found = self.repositories.get(name)
        files: list[dict[str, Any]]
        if found is None or (found.private and not allowed):
            return 404 if allowed else 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        match rest:
            case ["revision", *revision]:
                commit = found.branches.get("/".join(revision), "/".join(revision))
                if commit not in found.commits:
                    return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
                files = [{"rfilename": each} for each in found.commits[commit]]
                return 200, {}, _json({"id": name, "sha": commit, "siblings": files})
            case ["branch", *branch]:
                found.branches["/".join(branch)] = found.branches["main"]
                return 200, {}, b"{}"
            case ["preupload", *_]:
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["size"] >= LARGE else "regular",
                        "shouldIgnore": False,
                    }
                    for each in json.loads(body)["files"]
                ]
                return 200, {}, _json({"files": files})
            case ["commit", *branch]:
                return self._commit(name, found, "/".join(branch), body)
        return 404, {}, b"{}"

    def _commit(
        self, name: str, found: Repository, branch: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        files = dict(found.commits[found.branches[branch]])
        for line in body.decode().splitlines():
            each = json.loads(line)
            value = each["value"]
            match each["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.stored[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        commit = found.commit(branch, files)
        url = f"{self.url}/{name}/commit/{commit}"
        return 200, {}, _json({"commitUrl": url, "commitOid": commit, "success": True})

    def _file(
        self, name: str, revision: str, path: str, allowed: bool
    ) -> tuple[int, dict[str, str], bytes]:
        found = self.repositories.get(name)
        if found is None or (found.private and not allowed):
            return 404 if allowed else 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        content = found.commits[revision].get(path)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": revision}, b"{}"
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        return 200, {"ETag": tag, "X-Repo-Commit": revision}, content


def _chunks(request: Any) -> bytes:
    if request.headers.get("Transfer-Encoding") != "chunked":
        return b""
    parts = []
    while size := int(request.rfile.readline(), 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
