#!/usr/bin/env python3
"""Walks stock clients of Centrifugo's server API through every method that they have, against busline.

  tests/centrifugo/clients.py
  BUSLINE=path/to/busline tests/centrifugo/clients.py

The clients are `cent` of PyPI, at the version of tests/requirements.txt, and the crate `cent`, at that of
tests/centrifugo/cent-rs. A WebSocket client of `busline.v1.json` watches each effect on clients. A client
that cannot be had here is skipped with a message; a run without any fails.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

# The secret of tokens in the setting.
SECRET = b"secret"
# `end` is an addition of busline, and both clients have no `rpc`.
IN_NO_CLIENT = {"end", "rpc"}
CRATE = pathlib.Path(__file__).resolve().parent / "cent-rs"


class Wrong(Exception):
    """What is not as it should be."""


def must(holds, told):
    if not holds:
        raise Wrong(told)


# The clients.


class OfPython:
    """`cent` of PyPI."""

    def __init__(self, endpoint):
        import cent

        self.cent, self.client = cent, cent.Client(endpoint, harness.KEY)

    def __str__(self):
        from importlib.metadata import version

        return f"cent {version('cent')} of PyPI"

    def request(self, method, params):
        name = "".join(part.title() for part in method.split("_"))
        return getattr(self.cent, f"{name}Request")(**params)

    def call(self, method, params):
        if method == "batch":
            commands = [item for command in params["commands"] for item in command.items()]
            params = {"requests": [self.request(*command) for command in commands]}
        try:
            result = getattr(self.client, method)(self.request(method, params))
        except self.cent.CentApiResponseError as error:
            return {"error": {"code": error.code}}
        if method == "batch":
            replies = [reply.model_dump() for reply in result.replies]
            named = zip(commands, replies)
            return {"result": {"replies": [{name: reply} for (name, _), reply in named]}}
        return {"result": result.model_dump()}

    def close(self):
        self.client.close()


class OfRust:
    """The crate `cent`, by a program that calls it as it is told."""

    def __init__(self, endpoint):
        home = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", harness.ROOT / "target")) / "cent-rs"
        build = ["cargo", "build", "--quiet", "--locked", "--target-dir", home]
        fetch = ["cargo", "fetch", "--quiet", "--locked"]
        fetched = subprocess.run(fetch, cwd=CRATE, stderr=subprocess.PIPE, text=True)
        must("--locked" not in fetched.stderr, fetched.stderr)
        if fetched.returncode != 0:
            print(fetched.stderr, file=sys.stderr)
            raise harness.Skipped("the packages of the crate `cent` cannot be had here")
        subprocess.run(build, cwd=CRATE, check=True)
        self.program = subprocess.Popen(
            [home / "debug" / "cent-rs", endpoint, harness.KEY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __str__(self):
        packages = (CRATE / "Cargo.lock").read_text().split("[[package]]")
        (own,) = [package for package in packages if '\nname = "cent"\n' in package]
        version = own.split('version = "')[1].split('"')[0]
        return f"cent {version} of crates.io"

    def call(self, method, params):
        print(json.dumps({"method": method, "params": params}), file=self.program.stdin, flush=True)
        line = self.program.stdout.readline()
        must(line, f"{self} ended")
        answer = json.loads(line)
        must("wrong" not in answer, f"{self}: {method}: {answer}")
        return answer

    def close(self):
        self.program.stdin.close()
        must(self.program.wait(harness.PATIENCE) == 0, f"{self} ended with a fault")


# A client of the room, which watches.


def token(subject):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    until = int(time.time()) + 600
    head = part(b'{"alg":"HS256"}')
    claims = part(json.dumps({"sub": subject, "rooms": ["chat:*"], "exp": until}).encode())
    signed = head + b"." + claims
    return (signed + b"." + part(hmac.digest(SECRET, signed, hashlib.sha256))).decode()


class Watcher:
    """A WebSocket client of `busline.v1.json` in a room, which it is in for sure."""

    def __init__(self, address, room, subject):
        from websockets.sync.client import connect

        # The server ends each connection in the end.
        self.socket = contextlib.ExitStack().enter_context(
            connect(
                f"ws://{address}/ws/{room}",
                subprotocols=["busline.v1.json"],
                additional_headers={"Authorization": f"Bearer {token(subject)}"},
                open_timeout=harness.PATIENCE,
                proxy=None,
            )
        )
        first = self.frame()
        must("position" in first, f"the first frame tells no position: {first}")

    def frame(self):
        return json.loads(self.socket.recv(timeout=harness.PATIENCE))

    def message(self):
        """The next message: its data, and its number."""
        frame = self.frame()
        while "text" not in frame:
            frame = self.frame()
        return json.loads(frame["text"]), frame["offset"]

    def close(self):
        """The code and the reason with which the server closes the connection."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                self.frame()
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason


class Walk:
    """The walk of a client through the methods, in a room of its own."""

    def __init__(self, client, address, key):
        self.client, self.address = client, address
        self.path, self.channel = f"chat/{key}", f"chat:{key}"
        self.walked = set()

    def call(self, method, **params):
        self.walked.add(method)
        return self.client.call(method, params)

    def done(self, method, **params):
        answer = self.call(method, **params)
        must("result" in answer, f"{self.client}: {method} {params}: {answer}")
        return answer["result"]

    def refused(self, code, method, **params):
        answer = self.call(method, **params)
        must(answer.get("error", {}).get("code") == code, f"{self.client}: {method}: {answer}")

    def watcher(self):
        return Watcher(self.address, self.path, "ann")

    def same(self, found, expected, told):
        must(found == expected, f"{self.client}: {told}: {found} for {expected}")

    def publishes(self):
        watcher, channel = self.watcher(), self.channel
        published = self.done("publish", channel=channel, data={"n": 1}, idempotency_key="k")
        self.same(published["offset"], 1, "publish")
        again = self.done("publish", channel=channel, data={"n": 7}, idempotency_key="k")
        self.same(again["epoch"], published["epoch"], "the same publish again")
        self.same(watcher.message(), ({"n": 1}, 1), "the message")
        channels = [channel, f"{channel}-too"]
        done = self.done("broadcast", channels=channels, data={"n": 2})
        offsets = [response["result"]["offset"] for response in done["responses"]]
        self.same(offsets, [2, 1], "broadcast")
        self.same(watcher.message(), ({"n": 2}, 2), "the message of a broadcast")
        commands = [{"publish": {"channel": channel, "data": {"n": 3}}}, {"info": {}}]
        replies = self.done("batch", commands=commands)["replies"]
        self.same(replies[0]["publish"]["offset"], 3, "the publish of a batch")
        self.same(replies[1]["info"]["nodes"][0]["name"], "busline", "the server")
        self.same(watcher.message(), ({"n": 3}, 3), "the message of a batch")
        self.refused(102, "publish", channel="nowhere:1", data={})
        return watcher

    def looks(self):
        channel = self.channel
        history = self.done("history", channel=channel, limit=10)
        found = [(one["offset"], one["data"]["n"]) for one in history["publications"]]
        self.same(found, [(1, 1), (2, 2), (3, 3)], "history")
        (client,) = self.done("presence", channel=channel)["presence"].values()
        self.same(client["user"], "ann", "presence")
        stats = self.done("presence_stats", channel=channel)
        self.same((stats["num_clients"], stats["num_users"]), (1, 1), "presence_stats")
        channels = self.done("channels", pattern=channel)["channels"]
        self.same({name: one["num_clients"] for name, one in channels.items()}, {channel: 1}, "channels")
        (node,) = self.done("info")["nodes"]
        self.same((node["num_clients"], node["num_channels"]), (1, 1), "info")
        self.done("history_remove", channel=channel)
        history = self.done("history", channel=channel, limit=10)
        self.same((history.get("publications", []), history["offset"]), ([], 3), "history_remove")

    def acts(self, watcher):
        self.refused(108, "subscribe", user="ann", channel=f"{self.channel}-too")
        self.done("unsubscribe", user="ann", channel=self.channel)
        self.same(watcher.close()[0], 4500, "unsubscribe")
        watcher = self.watcher()
        self.done("refresh", user="ann", expired=True)
        self.same(watcher.close()[0], 3005, "refresh")
        watcher = self.watcher()
        self.done("disconnect", user="ann", disconnect={"code": 4000, "reason": "bye"})
        self.same(watcher.close(), (4000, "bye"), "disconnect")


def methods(api):
    """The names of all methods, as the server describes them."""
    request = urllib.request.Request(f"http://{api}/api/openapi.json", headers={"X-API-Key": harness.KEY})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=harness.PATIENCE) as answer:
        paths = json.load(answer)["paths"]
    return {path.removeprefix("/api/") for path, verbs in paths.items() if "post" in verbs} - {"/api"}


def walk(kind, key):
    with harness.busline() as (address, api):
        client = kind(f"http://{api}/api")
        walk = Walk(client, address, key)
        watcher = walk.publishes()
        walk.looks()
        walk.acts(watcher)
        missing = methods(api) - walk.walked - IN_NO_CLIENT
        must(not missing, f"{client} was not walked through {sorted(missing)}")
        client.close()
        print(f"{client}: {len(walk.walked)} methods ({', '.join(sorted(walk.walked))})", flush=True)


def main():
    ran = 0
    try:
        harness.with_packages()
    except harness.Skipped as why:
        sys.exit(f"no client of the API can be had here: {why}")
    for kind, key in [(OfPython, "python"), (OfRust, "rust")]:
        try:
            walk(kind, key)
            ran += 1
        except harness.Skipped as why:
            print(f"skipped: {why}")
        except Wrong as wrong:
            sys.exit(f"WRONG: {wrong}")
    if ran == 0:
        sys.exit("no client of the API could be had here")


if __name__ == "__main__":
    main()
