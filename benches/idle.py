#!/usr/bin/env python3
"""Holds many idle WebSocket connections on one machine, and tells what they cost the servers.

    cargo build --release
    benches/idle.py --connections 100000

Each connection is a real one, over loopback, between a server (`busline`) and a generator (`busline bench
idle`), and needs an open file in both. Where the limit of open files (`ulimit -Hn`) allows that, there is one
server; where it does not, as many servers as are needed, each at a loopback address of its own (127.0.0.1,
127.0.1.1, 127.0.2.1 and so on) and with a generator of its own. The servers tell by their metrics that they hold
all of the connections at the same moment.

It prints how much the resident memory of the servers has grown by, for a connection, and what they use of the
processor while nobody says anything. What they do then is keepalive: a ping every 25 s to each client, which
answers. The exit code is 1 when a connection is missing at the end. All processes end with this one, however it
ends. Linux only.
"""

import argparse
import ctypes
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Open files of a process that are no connections.
OTHERS = 100

# Most servers: each has an address 127.0.N.1.
ADDRESSES = 256

# Longest time without one more connection, in seconds.
PATIENCE = 30

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent():
    """Runs in the child: it is killed when this program is gone, even if that was killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Children:
    """Processes that end when the block does."""

    def __enter__(self):
        self.all = []
        return self

    def start(self, command):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BUSLINE_")}
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env=environment, preexec_fn=die_with_parent
        )
        self.all.append(child)
        return child

    def check(self):
        for child in self.all:
            if child.poll() is not None:
                sys.exit(f"{' '.join(child.args)} ended")

    def __exit__(self, *_):
        for child in self.all:
            child.kill()
        for child in self.all:
            child.wait()


class Server:
    """A server that listens."""

    def __init__(self, children, args, number, clients):
        host = f"127.0.{number}.1"
        self.address, self.admin = f"{host}:{args.port}", f"{host}:{args.port + 1}"
        self.clients = clients
        command = [args.binary, "--listen", self.address, "--threads", str(args.threads)]
        command += ["--admin", self.admin, "--log", "warn"]
        for bound in ("sessions", "sessions-per-address"):
            command += [f"--limits-{bound}", str(clients)]
        self.process = children.start(command)

    def metric(self, name):
        """The value of a metric without labels; `None` if the server does not answer."""
        try:
            text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=10).read().decode()
        except OSError:
            return None
        values = (line.split() for line in text.splitlines())
        return next(int(value[1]) for value in values if value[0] == name)

    def resident(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(t.split()[1]) * 1024 for t in status.splitlines() if t.startswith("VmRSS:"))

    def processor(self):
        """Seconds that its threads have used."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


def total(servers, name):
    return sum(server.metric(name) or 0 for server in servers)


def wait(children, reached, what):
    """Waits until `reached()` is true of its number; gives up when that does not change."""
    last, since = None, time.monotonic()
    while True:
        children.check()
        now, done = reached()
        if done:
            return
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            sys.exit(f"{what}: {now}, and no more for {PATIENCE} s")
        time.sleep(0.2)


def shares(connections, most):
    """As even parts as there can be, none larger than `most`."""
    count = math.ceil(connections / max(most, 1))
    if count > ADDRESSES:
        sys.exit(f"{count} servers would be too many: raise the limit of open files")
    return [connections // count + (n < connections % count) for n in range(count)]


def generate(children, args, server):
    url = f"ws://{server.address}/ws/{args.service}"
    # Until it is killed.
    command = [args.binary, "bench", "idle", "--url", url, "--clients", str(server.clients)]
    command += ["--pid", str(server.process.pid), "--seconds", "86400"]
    command += ["--connect-timeout", str(PATIENCE)]
    children.start([*command, "--json"])


def hold(children, args, servers):
    """The figures of one run."""
    up = lambda: sum(server.metric("busline_sessions") is not None for server in servers)
    wait(children, lambda: (up(), up() == len(servers)), "servers that answer")
    before = sum(server.resident() for server in servers)
    start = time.monotonic()
    for server in servers:
        generate(children, args, server)
    held = lambda: total(servers, "busline_sessions")
    wait(children, lambda: (count := held(), count == args.connections), "connections")
    opening = time.monotonic() - start
    # What only the upgrades needed is given back once they are over.
    time.sleep(args.settle)
    grown = sum(server.resident() for server in servers) - before
    pings = total(servers, "busline_pings_sent_total")
    begin, used = time.monotonic(), sum(server.processor() for server in servers)
    time.sleep(args.seconds)
    used = sum(server.processor() for server in servers) - used
    seconds = time.monotonic() - begin
    pings = total(servers, "busline_pings_sent_total") - pings
    return {
        "connections": args.connections,
        "servers": len(servers),
        "opened_in_seconds": round(opening, 1),
        "resident_bytes_per_connection": round(grown / args.connections),
        "watched_seconds": round(seconds, 1),
        "processor_percent_of_a_core": round(100 * used / seconds, 2),
        "pings": pings,
        "processor_us_per_ping": round(used * 1e6 / pings, 2) if pings else None,
        "connections_at_the_end": held(),
    }


def report(figures, as_json):
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        text = f"{value:,}" if isinstance(value, (int, float)) else "none"
        print(f"{name.replace('_', ' '):32} {text:>12}")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "busline"))
    parser.add_argument("--service", default="echo")
    parser.add_argument("--threads", type=int, default=1, help="threads of a server")
    # For a minute after a run the system keeps its pairs of addresses: another run has other ones.
    port = random.randrange(10_000, 30_000, 2)
    text = "this one, and the one after it for operators; else one at random"
    parser.add_argument("--port", type=int, default=port, help=text)
    parser.add_argument("--settle", type=float, default=5, help="seconds before memory is looked at")
    parser.add_argument("--seconds", type=float, default=60, help="time to watch the processor")
    parser.add_argument("--files", type=int, help="open files of a process, if fewer than allowed")
    parser.add_argument("--json", action="store_true", help="prints the figures as JSON")
    args = parser.parse_args()
    if args.connections < 1:
        parser.error("one connection at least")
    if not os.access(args.binary, os.X_OK):
        parser.error(f"there is no {args.binary}: cargo build --release")
    return args


def open_files(args):
    """How many a process may have; the children inherit as many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return args.files or args.connections + OTHERS
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, args.files or hard)


def main():
    args = arguments()
    # Ends the block below, and so the processes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    parts = shares(args.connections, open_files(args) - OTHERS)
    with Children() as children:
        servers = [Server(children, args, *each) for each in enumerate(parts)]
        figures = hold(children, args, servers)
    report(figures, args.json)
    if figures["connections_at_the_end"] != args.connections:
        sys.exit("connections were lost")


if __name__ == "__main__":
    main()
