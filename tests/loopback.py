"""Servers on this machine that answer as the publishers of weights do: a plain file server, and the hub with its redirects and headers."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Server:
    """Files by their path on the server, what was asked of it, and what goes wrong on purpose."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    damage: bool = False  # a byte of every large file is another
    cut: bool = False  # the connection ends in the middle of a large file, and later there is no answer
    pause_seconds: float = 0.0  # in the middle of every large file
    address: str = ""


LARGE_BYTES = 10_000  # from here on the hub stores a file apart and redirects to it


@contextmanager
def serve(server: Server) -> Iterator[Server]:
    """Runs `server` on a free port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(f"{self.command} {self.path}")
            path = self.path.strip("/")
            if path in server.files:
                self.send(server.files[path])
            elif path.startswith("apart/"):
                if server.cut and [asked for asked in server.asked if asked.startswith("GET /apart")][1:]:
                    self.send(b"", 503)
                    return
                sha256 = path.removeprefix("apart/")
                self.send(next(b for b in server.files.values() if hashlib.sha256(b).hexdigest() == sha256))
            elif path.startswith("api/models/"):
                self.send(json.dumps({"id": path.removeprefix("api/models/"), "sha": COMMIT}).encode())
            else:
                self.resolve(path)

        do_HEAD = do_GET

        def resolve(self, path: str) -> None:
            """`{repository}/resolve/{revision}/{file}`, as the hub answers it."""
            repository, _, rest = path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            if not any(known.startswith(f"{repository}:") for known in server.files):
                self.send(b"", 404 if revision else 400, {"X-Error-Code": "RepoNotFound"})
            elif (key := f"{repository}:{name}") not in server.files:
                self.send(b"", 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            else:
                content = server.files[key]
                sha256 = hashlib.sha256(content).hexdigest()
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
                if len(content) < LARGE_BYTES:
                    self.send(content, 200, headers)
                    return
                elsewhere = server.address.replace("127.0.0.1", "localhost")  # another host, as the hub's storage is
                headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
                self.send(b"", 302, headers | {"Location": f"{elsewhere}/apart/{sha256}"})

        def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if len(content) < LARGE_BYTES:
                self.wfile.write(content)
                return
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            time.sleep(server.pause_seconds)
            if server.cut:
                self.close_connection = True
                return
            second = bytearray(content[half:])
            if server.damage:
                second[0] ^= 1
            try:
                self.wfile.write(second)
            except ConnectionError:  # the other side was killed, which is what the test is about
                self.close_connection = True

        def log_message(self, format: str, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.address = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def cache_repository(cache: Path, repository: str, folder: Path) -> Path:
    """Puts the files of `folder` into the hub cache `cache` exactly as `huggingface_hub` lays it out; returns the snapshot."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    for place in (home / "blobs", home / "refs", snapshot):
        place.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text(COMMIT)
    for path in folder.iterdir():
        content = path.read_bytes()
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot
