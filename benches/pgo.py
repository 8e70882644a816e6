#!/usr/bin/env python3
"""Builds the fastest busline there is: once to watch what it does under load, once arranged for that.

    benches/pgo.py        # to target/pgo/busline

Profile-guided optimization takes about a fifth off what busline itself needs for a message. It
needs LLVM's `llvm-profdata` of the version that rustc has, from `rustup component add llvm-tools` or a
system's package, and takes two builds and half a minute of load on this machine.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "pgo"
PORT = 9102

# What a server does under load: the threads it has, the generator's arguments, the route. Both
# crossings of threads and every workload, with short and long messages.
WORK = [
    (1, "echo --clients 64 --size 32 --in-flight 1", "/ws/echo"),
    (1, "echo --clients 64 --size 32 --in-flight 16", "/ws/echo"),
    (1, "echo --clients 64 --size 2000 --in-flight 4", "/ws/echo"),
    (1, "fan-out --clients 1000 --size 64 --window 1", "/ws/ping"),
    (1, "fan-out --clients 1000 --size 64 --window 16", "/ws/ping"),
    (1, "broadcast --clients 50 --size 32", "/ws/ping"),
    (1, "latency --clients 64 --size 32 --rate 10000", "/ws/echo"),
    (2, "echo --clients 64 --size 32 --in-flight 4", "/ws/echo"),
    (2, "fan-out --clients 500 --size 64 --window 16", "/ws/ping"),
]


def rustc(*arguments):
    return subprocess.run(["rustc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def known(pattern, text):
    return re.search(pattern, text, re.MULTILINE).group(1)


def profdata(version, host):
    """The tool that merges profiles; another version than rustc's may not read them."""
    own = Path(rustc("--print", "sysroot").strip()) / "lib" / "rustlib" / host / "bin" / "llvm-profdata"
    for tool in (str(own), f"llvm-profdata-{version}", "llvm-profdata"):
        found = shutil.which(tool)
        if found and f"LLVM version {version}." in subprocess.check_output([found, "--version"], text=True):
            return found
    sys.exit(
        f"there is no llvm-profdata of LLVM {version}: `rustup component add llvm-tools`, or install your "
        f"system's package llvm-{version}"
    )


def build(host, name, flags):
    """A release build with these flags; the binary."""
    target = TARGET / name
    environment = {**os.environ, "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} {flags}".strip()}
    # With a target named, the flags are not for what only the build runs.
    command = ["cargo", "build", "--release", "--locked", "--bin", "busline", "--target", host]
    command += ["--target-dir", str(target)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return target / host / "release" / "busline"


def serve(binary, threads):
    """A server that listens."""
    command = [binary, "--listen", f"127.0.0.1:{PORT}", "--admin", "off", "--log", "warn"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BUSLINE_")}
    server = subprocess.Popen([*command, "--threads", str(threads)], env=environment)
    for _ in range(200):
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.05)
    server.kill()
    sys.exit(f"the server does not listen on port {PORT}")


def train(binary, seconds):
    """Serves every workload; each process leaves its profile when it ends."""
    for threads, arguments, path in WORK:
        server = serve(binary, threads)
        try:
            url = f"ws://127.0.0.1:{PORT}{path}"
            command = [binary, "bench", *arguments.split(), "--url", url, "--seconds", str(seconds)]
            print(f"  {arguments}", flush=True)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finally:
            server.send_signal(signal.SIGINT)
            ended = server.wait()
        if ended != 0:
            sys.exit(f"the server has ended with {ended}, and left no profile")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each workload (default: 2)")
    return parser.parse_args()


def main():
    args = arguments()
    about = rustc("--version", "--verbose")
    host, version = known(r"^host: (\S+)", about), known(r"^LLVM version: (\d+)", about)
    merge = profdata(version, host)
    profiles = TARGET / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    watched = build(host, "watched", f"-Cprofile-generate={profiles}")
    # Those of what only the build has run are none of the server.
    shutil.rmtree(profiles, ignore_errors=True)
    train(watched, args.seconds)
    merged = TARGET / "busline.profdata"
    subprocess.run([merge, "merge", "-o", merged, *profiles.glob("*.profraw")], check=True)
    arranged = build(host, "arranged", f"-Cprofile-use={merged}")
    binary = TARGET / "busline"
    shutil.copy2(arranged, binary)
    print(f"{binary.relative_to(ROOT)} is built")


if __name__ == "__main__":
    main()
