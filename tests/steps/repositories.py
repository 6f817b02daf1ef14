"""Git repositories to pull from: on disk, and over HTTP behind a token."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WHO = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def run(*argv: str, cwd: Path) -> str:
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, **WHO}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class Origin:
    """A bare repository and a working copy to push from."""

    def __init__(self, root: Path) -> None:
        self.root, self.bare, self.work = root, root / "code.git", root / "work"
        run("git", "init", "-q", "--bare", "-b", "main", str(self.bare), cwd=root)
        run("git", "clone", "-q", str(self.bare), str(self.work), cwd=root)
        run("git", "checkout", "-q", "-b", "main", cwd=self.work)

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def commit(self, branch: str = "main", **files: str) -> str:
        run("git", "checkout", "-q", "-B", branch, cwd=self.work)
        for name, text in files.items():
            path = self.work / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run("git", "add", "-A", cwd=self.work)
        run("git", "commit", "-q", "-m", "x", cwd=self.work)
        run("git", "push", "-q", "-f", "origin", branch, cwd=self.work)
        return run("git", "rev-parse", "HEAD", cwd=self.work)


class Backend(http.server.BaseHTTPRequestHandler):
    """``git http-backend`` behind a token."""

    root: Path
    wanted: str

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != self.wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        made = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True)
        head, _, content = made.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path, user: str, token: str) -> Iterator[str]:
    """The address of the repositories in ``root``, for whoever knows the token."""
    wanted = base64.b64encode(f"{user}:{token}".encode()).decode()
    handler = type("Handler", (Backend,), {"root": root, "wanted": f"Basic {wanted}"})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
