#!/usr/bin/env python3
"""Compares busline with another server of the same shape, and writes the table and plot of docs/performance.md.

Runs `busline bench` against both in turn (A B A B ...), the servers on core 0 and the generator on core
1, and takes the median of the ratios of neighbouring runs: of many short ones, as the speed of a virtual
machine changes within seconds. Nothing else should run meanwhile.

    cargo build --release
    benches/compare.py --baseline "path/to/server {port}" --baseline-name Go

The baseline is any command with `{port}` in it. Its routes are options as well; the defaults are those of
a server that echoes at /echo, relays /pub to all of /sub, and broadcasts at /ws/ping. With an older busline:

    benches/compare.py --baseline "path/to/busline --listen 127.0.0.1:{port} --admin off" \\
        --baseline-name before --baseline-echo /ws/echo --baseline-subscribe /ws/ping --baseline-publish ""

Two threads against one are the same with `--busline-args "--threads 2"`, `--threads 1` behind the baseline, and
all on the same cores: `--server-cores 0,1 --generator-cores 0,1`.

Everything that was measured goes to benches/results/compare.json; from there come the table between the
markers in docs/performance.md and benches/results/compare.svg. --render writes both anew from that file; --dry writes
nothing at all.
"""

import argparse
import json
import os
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import time
from math import log
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches" / "results" / "compare.json"
PLOT = ROOT / "benches" / "results" / "compare.svg"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- compare.py: begin -->", "<!-- compare.py: end -->"

ATTEMPTS = 3
PORTS = {"busline": 9100, "baseline": 9101}

ECHO = "echo --clients 64 --size 32 --in-flight {}"
FAN_OUT = "fan-out --clients 1000 --size 64 --window {}"

# What is run: name, the generator's arguments, the kind of route.
WORKLOADS = [
    ("echo, 64 clients, 1 in flight", ECHO.format(1), "echo"),
    ("echo, 64 clients, 16 in flight", ECHO.format(16), "echo"),
    ("fan-out, 1,000 clients, window 1", FAN_OUT.format(1), "fan-out"),
    ("fan-out, 1,000 clients, window 16", FAN_OUT.format(16), "fan-out"),
    ("fan-out, 1,000 clients, window 64", FAN_OUT.format(64), "fan-out"),
    ("broadcast, 50 clients", "broadcast --clients 50 --size 32", "broadcast"),
]
IDLE = "idle, {} clients"

BUSLINE_ROUTES = {
    "echo": "/ws/echo",
    "fan-out": "/ws/ping",
    "broadcast": "/ws/ping",
    "idle": "/ws/echo",
}


class Server:
    """A server that listens, on its own cores, until the block ends."""

    def __init__(self, command, port, cores):
        self.command, self.port, self.cores = command, port, cores

    def __enter__(self):
        command = ["taskset", "-c", self.cores, *self.command]
        quiet = subprocess.DEVNULL
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BUSLINE_")}
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
        for _ in range(200):
            if self.process.poll() is not None:
                sys.exit(f"{shlex.join(self.command)} ended at once")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        sys.exit(f"{shlex.join(self.command)} does not listen on port {self.port}")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Comparison:
    def __init__(self, args):
        self.args = args
        listen = f"127.0.0.1:{PORTS['busline']}"
        busline = [args.busline, "--listen", listen, "--admin", "off", "--log", "warn"]
        baseline = args.baseline.replace("{port}", str(PORTS["baseline"]))
        self.commands = {
            "busline": busline + shlex.split(args.busline_args),
            "baseline": shlex.split(baseline),
        }
        fan_out = ["--publish-path", args.baseline_publish]
        self.routes = {
            "busline": {kind: (path, []) for kind, path in BUSLINE_ROUTES.items()},
            "baseline": {
                "echo": (args.baseline_echo, []),
                "fan-out": (args.baseline_subscribe, fan_out if args.baseline_publish else []),
                "broadcast": (args.baseline_broadcast, []),
                "idle": (args.baseline_echo, []),
            },
        }

    def server(self, who):
        return Server(self.commands[who], PORTS[who], self.args.server_cores)

    def bench(self, server, who, arguments, kind):
        """The figures of one run."""
        path, more = self.routes[who][kind]
        url = f"ws://127.0.0.1:{server.port}{path}"
        pinned = ["taskset", "-c", self.args.generator_cores]
        command = [*pinned, self.args.busline, "bench", *arguments.split()]
        command += ["--url", url, "--pid", str(server.process.pid), "--json", *more]
        for _ in range(ATTEMPTS):
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for text in run.stderr.splitlines():
                print(f"  {who}: {text}", file=sys.stderr)
            # A run that was kept from running has nothing to divide by.
            figures = json.loads(run.stdout or "{}")
            if figures.get("messages") or (figures and kind == "idle"):
                return figures
        sys.exit(f"{shlex.join(command)} measured nothing")

    def row(self, name, unit, figure, pairs):
        """What is kept of the runs of one workload; `figure` names the number that counts."""
        values = [{who: pair[who]["server"][figure] for who in pair} for pair in pairs]
        row = {"name": name, "unit": unit, "figure": figure, "values": values, "runs": pairs}
        print(line(row), flush=True)
        return row

    def messages(self):
        timing = f" --seconds {self.args.seconds} --warm-up {self.args.warm_up}"
        for name, arguments, kind in WORKLOADS:
            pairs = []
            with self.server("busline") as ours, self.server("baseline") as theirs:
                for _ in range(self.args.rounds):
                    both = {"busline": ours, "baseline": theirs}
                    run = lambda who: self.bench(both[who], who, arguments + timing, kind)
                    pairs.append({who: run(who) for who in both})
            yield self.row(name, "us", "cpu_us_per_message", pairs)

    def idle(self):
        """Each run has a new server: one that had clients before holds what it keeps for the next."""
        clients = self.args.idle_clients
        pairs = []
        for _ in range(self.args.idle_rounds):
            pair = {}
            for who in PORTS:
                with self.server(who) as server:
                    arguments = f"idle --clients {clients} --seconds 2"
                    pair[who] = self.bench(server, who, arguments, "idle")
            pairs.append(pair)
        name = IDLE.format(f"{clients:,}")
        return self.row(name, "bytes", "resident_bytes_per_connection", pairs)

    def run(self):
        print(f"| workload | busline | {self.args.baseline_name} | ratio | from - to |")
        rows = [*self.messages(), self.idle()]
        return {
            "baseline": self.args.baseline_name,
            "machine": machine(),
            "rounds": self.args.rounds,
            "seconds": self.args.seconds,
            "rows": rows,
        }


def machine():
    model = platform.machine()
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            model = text.split(":", 1)[1].strip()
            break
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.release().split('-')[0]}"


def summary(row):
    """Both medians, the median of the ratios, and the smallest and the largest ratio."""
    ours, theirs = ([value[who] for value in row["values"]] for who in ("busline", "baseline"))
    ratios = [a / b for a, b in zip(ours, theirs)]
    median = statistics.median
    return median(ours), median(theirs), median(ratios), min(ratios), max(ratios)


def figure(value, unit):
    return f"{value:,.0f} B" if unit == "bytes" else f"{value:.3f} us"


def line(row):
    ours, theirs, ratio, least, most = summary(row)
    a, b = figure(ours, row["unit"]), figure(theirs, row["unit"])
    return f"| {row['name']} | {a} | {b} | {ratio:.3f} | {least:.3f} - {most:.3f} |"


def write_page(results):
    """The table and the plot, between the markers."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    baseline = results["baseline"]
    picture = Path("..") / PLOT.relative_to(ROOT)
    lines = [
        BEGIN,
        f"![Processor time for a delivered message, busline and {baseline}]({picture})",
        "",
        f"| workload | busline | {baseline} | ratio | from - to |",
        "| --- | --- | --- | --- | --- |",
        *[line(row) for row in results["rows"]],
        "",
        f"{results['machine']}; {results['rounds']} rounds of {results['seconds']:g} s each.",
        END,
    ]
    PAGE.write_text(before + "\n".join(lines) + after)


# The plot: a row a workload, a dot for each server on a logarithmic axis, the ratio beside it.

WIDTH, LEFT, RIGHT, ROW, TOP = 800, 250, 90, 34, 62

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .dim { fill: #57606a; font-size: 12px }
  .head { font-weight: 600 }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .link { stroke: #8c959f; stroke-width: 2 }
  circle { fill-opacity: 0.85 }
  .busline { fill: #0969da }
  .baseline { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .dim { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .link { stroke: #656c76 }
    .busline { fill: #4493f8 }
    .baseline { fill: #f0883e }
  }
"""


class Panel:
    """Rows of one unit, with an axis of their own, from `top` on."""

    def __init__(self, title, rows, top, baseline):
        self.title, self.rows, self.top, self.baseline = title, rows, top, baseline
        values = [value for row in rows for value in summary(row)[:2]]
        steps = [step * 10.0**power for power in range(-4, 9) for step in (1, 2, 5)]
        self.low = max(step for step in steps if step <= min(values) * 0.9)
        self.high = min(step for step in steps if step >= max(values) * 1.1)
        self.ticks = [step for step in steps if self.low <= step <= self.high]

    @property
    def height(self):
        return TOP + ROW * len(self.rows) + 12

    def x(self, value):
        share = log(value / self.low) / log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def draw(self):
        end = self.top + self.height - 12
        yield f'<text class="head" x="12" y="{self.top + 20}">{self.title}</text>'
        yield f'<text class="dim" x="{WIDTH - RIGHT + 30}" y="{self.top + 20}">ratio</text>'
        for tick in self.ticks:
            x = self.x(tick)
            yield f'<line class="grid" x1="{x:.1f}" y1="{self.top + 52}" x2="{x:.1f}" y2="{end}"/>'
            text = f"{tick:g}" if tick < 1000 else f"{tick:,.0f}"
            yield f'<text class="dim" x="{x:.1f}" y="{self.top + 46}" text-anchor="middle">{text}</text>'
        for index, row in enumerate(self.rows):
            yield from self.draw_row(row, self.top + TOP + ROW * index + ROW / 2)

    def draw_row(self, row, y):
        ours, theirs, ratio, *_ = summary(row)
        a, b = self.x(ours), self.x(theirs)
        yield f'<text x="12" y="{y + 4}">{row["name"]}</text>'
        yield f'<line class="link" x1="{a:.1f}" y1="{y}" x2="{b:.1f}" y2="{y}"/>'
        for who, x, value in (("busline", a, ours), ("baseline", b, theirs)):
            name = "busline" if who == "busline" else self.baseline
            tip = f"{name}: {figure(value, row['unit'])}"
            yield f'<circle class="{who}" cx="{x:.1f}" cy="{y}" r="6"><title>{tip}</title></circle>'
        yield f'<text x="{WIDTH - RIGHT + 30}" y="{y + 4}">{ratio:.3f}</text>'


def write_plot(results):
    baseline = results["baseline"]
    of = lambda unit: [row for row in results["rows"] if row["unit"] == unit]
    panels, top = [], 40
    for title, rows in (
        ("Processor time for a delivered message, us", of("us")),
        ("Resident memory for an idle connection, bytes", of("bytes")),
    ):
        if rows:
            panels.append(Panel(title, rows, top, baseline))
            top += panels[-1].height
    body = [part for panel in panels for part in panel.draw()]
    legend = [
        '<circle class="busline" cx="18" cy="22" r="6"/><text x="30" y="26">busline</text>',
        f'<circle class="baseline" cx="108" cy="22" r="6"/><text x="120" y="26">{baseline}</text>',
        f'<text class="dim" x="{WIDTH - 12}" y="26" text-anchor="end">logarithmic; left is better</text>',
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" '
        f'width="{WIDTH}" height="{top:.0f}" role="img">'
    )
    title = f"<title>busline and {baseline}: processor time and memory</title>"
    PLOT.write_text("\n".join([head, title, f"<style>{STYLE}</style>", *legend, *body, "</svg>", ""]))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--baseline", help="command of the other server, with {port} in it")
    parser.add_argument("--baseline-name", default="baseline", help="what the table calls it")
    parser.add_argument("--baseline-echo", default="/echo", metavar="PATH")
    parser.add_argument("--baseline-subscribe", default="/sub", metavar="PATH")
    parser.add_argument("--baseline-publish", default="/pub", metavar="PATH")
    parser.add_argument("--baseline-broadcast", default="/ws/ping", metavar="PATH")
    parser.add_argument("--busline", default=str(ROOT / "target" / "release" / "busline"))
    parser.add_argument("--busline-args", default="", help="more arguments of busline's server")
    parser.add_argument("--server-cores", default="0", metavar="LIST", help="as taskset takes them")
    parser.add_argument("--generator-cores", default="1", metavar="LIST")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--idle-clients", type=int, default=9900)
    parser.add_argument("--idle-rounds", type=int, default=3)
    parser.add_argument("--render", action="store_true", help="writes table and plot anew, no more")
    parser.add_argument("--dry", action="store_true", help="prints the table and writes nothing")
    args = parser.parse_args()
    if not args.render and not args.baseline:
        parser.error("give a --baseline to compare with, or --render")
    return args


def main():
    args = arguments()
    if not args.render:
        results = Comparison(args).run()
        if args.dry:
            return
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    write_plot(results)
    write_page(results)


if __name__ == "__main__":
    main()
