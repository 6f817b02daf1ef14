"""Stands for ``eparch server start`` where only starting, finding and stopping is tested."""

import argparse
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("words", nargs=2)
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--idle-seconds")
parser.add_argument("--ready-fd", type=int)
given = parser.parse_args()
home = Path(os.environ["EPARCH_HOME"])
with (home / "starts").open("a") as file:
    file.write(f"{os.getpid()} {given.idle_seconds}\n")
if (home / "broken").exists():
    sys.exit("error: The database cannot be used.\n  why: It is of a newer version.\n  do: Upgrade.")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        data = json.dumps({"version": "0", "database": "d", "started": "2030-01-01T00:00:00Z"}).encode()
        self.send_response(200 if self.path == "/api/eparch" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = HTTPServer((given.host, given.port), Handler)
url = f"http://{given.host}:{server.server_address[1]}/api"
state = {"pid": os.getpid(), "url": url, "started": "2030-01-01T00:00:00Z", "version": "0", "shared": True}
(home / "server.json").write_text(json.dumps(state))
if (home / "deaf").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(given.ready_fd, json.dumps(state).encode() + b"\n")
os.close(given.ready_fd)
server.serve_forever()
