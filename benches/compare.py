#!/usr/bin/env python3
"""Compares busline with another server of the same shape: CPU per delivered message.

Runs a load generator against both, in turn, the servers on core 0 and the generator on core 1,
and prints the median of the ratios of neighbouring runs:

    cargo build --release
    benches/compare.py --loadgen PATH --baseline PATH [--rounds 7] [--secs 2]

The load generator takes --port, --pid, --mode, --path, ... and prints `cpu_us_per_msg=X`; the
baseline server takes its port as its only argument.
"""

import argparse
import re
import statistics
import subprocess
import time

BUSLINE_PORT, BASELINE_PORT = 9100, 9101

# What is run: name, the generator's arguments, busline's routes, the baseline's routes.
WORKLOADS = [
    ("ping broadcast, 50 clients", "--mode bcast --n 50 --size 32", "/ws/ping", "/ws/ping"),
    ("echo, 64 clients, 1 in flight", "--mode echo --n 64 --depth 1 --size 32", "/ws/echo", "/echo"),
    ("echo, 64 clients, 16 in flight", "--mode echo --n 64 --depth 16 --size 32", "/ws/echo", "/echo"),
]


def start(command, cores):
    server = subprocess.Popen(
        ["taskset", "-c", cores, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(0.5)
    return server


def run(args, port, server, workload, path):
    command = ["taskset", "-c", "1", args.loadgen, "--port", str(port), "--pid", str(server.pid)]
    command += [*workload.split(), "--path", path, "--secs", str(args.secs)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"cpu_us_per_msg=([0-9.]+)", out).group(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--busline", default="target/release/busline")
    parser.add_argument("--loadgen", required=True)
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--secs", type=float, default=2.0)
    args = parser.parse_args()
    listen = f"127.0.0.1:{BUSLINE_PORT}"
    busline = start([args.busline, "--listen", listen, "--log", "warn"], "0")
    baseline = start([args.baseline, str(BASELINE_PORT)], "0")
    try:
        print("| workload | busline, us | baseline, us | ratio |")
        print("| --- | --- | --- | --- |")
        for name, workload, ours, theirs in WORKLOADS:
            pairs = []
            for _ in range(args.rounds):
                a = run(args, BUSLINE_PORT, busline, workload, ours)
                b = run(args, BASELINE_PORT, baseline, workload, theirs)
                pairs.append((a, b, a / b))
            a, b, ratio = (statistics.median(column) for column in zip(*pairs))
            print(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.3f} |", flush=True)
    finally:
        busline.kill()
        baseline.kill()


if __name__ == "__main__":
    main()
