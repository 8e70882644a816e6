#!/usr/bin/env python3
"""Runs the Autobahn test suite against /ws/echo: RFC 6455 (sections 1-10) and RFC 7692 (12-13).

  tests/autobahn.py              all of it, in about 3 minutes
  tests/autobahn.py '9.*' 2.10   these cases

Builds the server, installs the suite's engine `kosoku` (from PyPI) below target/, and fails if a
case does. The report for a browser is target/autobahn/report/index.html.
"""

import asyncio
import collections
import os
import pathlib
import re
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "autobahn"
PYTHON = HOME / "venv" / "bin" / "python"
ENGINE = "kosoku==0.1.0"
# Section 9 sends messages of this size.
MESSAGE_BYTES = 16 * 1024 * 1024
# What the suite calls a pass; NON-STRICT is a choice that RFC 6455 leaves open.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}


def install():
    if not PYTHON.exists():
        venv.create(HOME / "venv", with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", ENGINE], check=True)
    os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])


def serve():
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    arguments = ["--listen", "127.0.0.1:0", "--max-message-bytes", str(MESSAGE_BYTES)]
    server = subprocess.Popen(
        [ROOT / "target/release/busline", *arguments, "--log", "warn"],
        stdout=subprocess.PIPE,
        text=True,
    )
    address = re.search(r"http://(\S+?)/", server.stdout.readline())
    if not address:
        server.kill()
        sys.exit("the server did not say where it listens")
    return server, f"ws://{address[1]}/ws/echo"


def mend_cases():
    """The engine hands a message that came uncompressed to the cases of sections 12 and 13 as a
    str, which they cannot hash; they were written for bytes."""
    from kosoku.cases import CASES

    def mended(on_message):
        def on_bytes(case, message, binary):
            if isinstance(message, str):
                message = message.encode("latin-1" if binary else "utf-8")
            return on_message(case, message, binary)

        return on_bytes

    for name, case in CASES.items():
        if name.startswith(("12.", "13.")):
            case.onMessage = mended(case.onMessage)


async def run(url, cases):
    from kosoku import FailureError, _report, run_fuzzingclient

    mend_cases()
    try:
        results = await run_fuzzingclient(url, cases or None, None, concurrency=2)
    except FailureError as failure:
        print(failure)
        results = failure.results
    _report.write_reports(results, HOME / "report")
    counts = collections.Counter(result.behavior.value for result in results)
    failed = [
        result.case_id
        for result in results
        if not {result.behavior.value, result.behavior_close.value} <= PASSED
    ]
    counted = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{len(results)} cases: {counted}; failed: {', '.join(failed) or 'none'}")
    return bool(failed) or not results


def main():
    try:
        import kosoku  # noqa: F401
    except ModuleNotFoundError:
        install()
    server, url = serve()
    try:
        failed = asyncio.run(run(url, sys.argv[1:]))
    finally:
        server.terminate()
        server.wait()
    sys.exit(failed)


if __name__ == "__main__":
    main()
