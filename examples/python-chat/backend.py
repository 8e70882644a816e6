"""The backend of a chat: looks at what people say, and publishes it over the API of busline."""
import html
import json
import os
import pathlib
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).parent
CLIENT = HERE.parent.parent / "clients" / "js" / "busline.js"
API = os.environ.get("CHAT_API", "http://localhost:8081/api")
LIVE = os.environ.get("CHAT_LIVE", "ws://localhost:8080/ws/chat/lobby")
KEY = os.environ["CHAT_KEY"]
BYTES_MAX = 4096


def call(method, **params):
    """Calls a method of busline, and returns its result."""
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    body = json.dumps(params).encode()
    request = urllib.request.Request(f"{API}/{method}", body, headers)
    with urllib.request.urlopen(request, timeout=5) as response:
        answer = json.load(response)
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']['message']}")
    return answer["result"]


class Chat(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            page = (HERE / "page.html").read_text().replace("{{live}}", html.escape(LIVE))
            self.answer(200, "text/html; charset=utf-8", page.encode())
        elif self.path == "/busline.js":
            self.answer(200, "text/javascript", CLIENT.read_bytes())
        else:
            self.answer(404, "text/plain", b"there is nothing here\n")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        said = json.loads(self.rfile.read(min(length, BYTES_MAX)))
        name, text, once = (str(said.get(part, ""))[:500].strip() for part in ("name", "text", "id"))
        if self.path != "/say" or not name or not text:
            return self.answer(400, "text/plain", b"a name says a text\n")
        call("publish", channel="chat:lobby", data={"name": name, "text": text}, idempotency_key=once)
        there = call("presence_stats", channel="chat:lobby")["num_clients"]
        self.answer(200, "application/json", json.dumps({"told": there}).encode())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("localhost", int(os.environ.get("CHAT_PORT", "8000"))), Chat)
    print(f"http://localhost:{server.server_port}/", flush=True)
    server.serve_forever()
