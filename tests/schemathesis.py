#!/usr/bin/env python3
"""Runs schemathesis against the API, by its own OpenAPI document, and fails if it finds anything.

  tests/schemathesis.py               publish, history and presence, then all methods, in about a minute
  BUSLINE=path/to/busline tests/schemathesis.py --examples 500 --seed 7

Builds the server and installs schemathesis (of PyPI, at the versions of tests/requirements.txt) below
target/. Skipped with a message where the packages cannot be had.
"""

import argparse
import subprocess
import sys
import time

import harness

FIRST = ["publish", "history", "presence"]
# An answer to each command and to each channel, with the status 200, is no refusal of the whole.
SEVERAL = ["batch", "broadcast"]
# Rooms for the examples of the document; wrong keys, which are shown on purpose, are never too many.
MORE = """
[room.news]
publish = "members"
payload = "json"
presence = "list"
history = { messages = 100, bytes = "1MiB", ttl = "300s" }

[limits]
api_wrong_keys = "100000/s"
"""
# With a status for each error whatever breaks the schema is refused, though not all that keeps to it is
# taken: a room may not be there. With the status 200 all that keeps to the schema is taken.
REFUSES = ["--header", "X-Centrifugo-Error-Mode: transport"]
REFUSES += ["--exclude-checks", "positive_data_acceptance"]
TAKES = ["--header", "X-Centrifugo-Error-Mode: none"]
TAKES += ["--exclude-checks", "negative_data_rejection"]


def run(programs, api, arguments, told):
    print(f"-- {told}", flush=True)
    command = [programs / "st", "run", f"http://{api}/api/openapi.json"]
    command += ["--header", f"X-API-Key: {harness.KEY}", "--checks", "all", "--workers", "1"]
    done = subprocess.run([*command, *arguments], cwd=harness.HOME)
    if done.returncode != 0:
        sys.exit(f"schemathesis found something: {told}")


def paths(methods, option="--include-path"):
    return [part for method in methods for part in (option, f"/api/{method}")]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seed", default="1")
    arguments.add_argument("--examples", default="50", help="of each operation, in each run")
    arguments = arguments.parse_args()
    began = time.monotonic()
    try:
        programs = harness.packages()
    except harness.Skipped as why:
        print(f"skipped: {why}")
        return
    common = ["--seed", arguments.seed, "--max-examples", arguments.examples]
    several = paths(SEVERAL, "--exclude-path")
    with harness.busline(MORE) as (_, api):
        for told, methods in [("publish, history and presence", paths(FIRST)), ("all methods", [])]:
            run(programs, api, [*common, *methods, *TAKES], f"{told}, errors with the status 200")
            refused = methods or several
            run(programs, api, [*common, *refused, *REFUSES], f"{told}, errors with their statuses")
    print(f"schemathesis found nothing ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
