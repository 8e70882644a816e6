"""What the tests in Python share: packages of PyPI, and a busline of its own for each run."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "python"
PACKAGES = ROOT / "tests" / "requirements.txt"
SETTING = ROOT / "tests" / "centrifugo" / "main.toml"
# The key of the setting.
KEY = "key"
# Longest time that a start or an end may take, in seconds.
PATIENCE = 20


class Skipped(Exception):
    """Why something cannot run here."""


def packages():
    """The folder of the programs of the packages, which are installed first.

    Raises `Skipped` where they cannot be had."""
    programs = HOME / "bin"
    try:
        if not (programs / "python").exists():
            venv.create(HOME, with_pip=True)
        pip = [programs / "python", "-m", "pip", "install", "--quiet", "--requirement", PACKAGES]
        subprocess.run(pip, check=True, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"the packages of {PACKAGES.name} cannot be had here ({error})") from None
    return programs


def with_packages():
    """Goes on in a Python that has the packages, which are installed first."""
    if pathlib.Path(sys.prefix) == HOME:
        return
    python = packages() / "python"
    os.execv(python, [str(python), *sys.argv])


def binary():
    given = os.environ.get("BUSLINE")
    if given:
        return pathlib.Path(given).resolve()
    subprocess.run(["cargo", "build", "--locked", "--bin", "busline"], cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "busline"


@contextlib.contextmanager
def busline(more=""):
    """A server with the setting of the recorded conversations, and more of it: the addresses of its
    clients and of its API. A server that does not end well is an error."""
    with tempfile.TemporaryDirectory(prefix="busline-") as folder:
        config, log = pathlib.Path(folder) / "busline.toml", pathlib.Path(folder) / "log"
        config.write_text(SETTING.read_text() + more)
        env = {key: value for key, value in os.environ.items() if not key.startswith("BUSLINE_")}
        command = [binary(), "--config", config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        with open(log, "w") as errors:
            server = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            # It says where clients find it once all listeners are there.
            clients = re.search(r"http://(\S+?)/", server.stdout.readline())
            api = re.search(r"operators' listener addresses=\[([^\]]+)\]", log.read_text())
            if not clients or not api:
                sys.exit(f"the server did not say where it listens:\n{log.read_text()}")
            yield clients[1], api[1]
            server.send_signal(signal.SIGTERM)
            if server.wait(PATIENCE) != 0:
                sys.exit(f"the server ended with {server.returncode}:\n{log.read_text()}")
            if "panicked" in log.read_text():
                sys.exit(f"the server panicked:\n{log.read_text()}")
        finally:
            server.kill()
            server.wait()
