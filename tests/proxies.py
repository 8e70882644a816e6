#!/usr/bin/env python3
"""Checks what docs/proxies.md says: busline behind nginx and behind HAProxy, with the settings of that page.

  tests/proxies.py                   builds the server, checks all of it, in about 20 seconds
  BUSLINE=path/to/busline tests/proxies.py

Needs nginx and haproxy (Debian: apt-get install --no-install-recommends nginx-light haproxy), curl with HTTP/2,
openssl, Linux, and no rights. Everything listens on loopback, at free ports. A setting of the page that is to be changed here, such
as a port, and is no longer there makes it fail.
"""

import base64
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "proxies.md"
HOST = "chat.example.com"
# Longest time anything may take.
PATIENCE = 20
# The proxies' timeout in seconds, how often busline pings, and how many pings take longer than that.
TIMEOUT, PING, PINGS = 2, "500ms", 8
LARGE = 1_000_000
TEXT, BINARY, CLOSE, PING_FRAME, PONG = 1, 2, 8, 9, 10


class Wrong(Exception):
    """What is not as the page says."""


def must(holds, told):
    if not holds:
        raise Wrong(told)


# What the page says.


def block(language):
    """The first block of settings in this language; on the page it is a whole file."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    must(found, f"{PAGE.name} has no block of {language}")
    return found[1]


def changed(text, changes):
    """The text with each of these lines or parts of lines, each of which it has, in place of another."""
    for old, new in changes.items():
        must(old in text, f"{PAGE.name} no longer says {old!r}")
        text = text.replace(old, new)
    return text


# Programs and their ports.


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        sys.exit(f"{name} is not installed: apt-get install --no-install-recommends nginx-light haproxy")
    return found


def busline_binary():
    given = os.environ.get("BUSLINE")
    if given:
        return str(pathlib.Path(given).resolve())
    subprocess.run(["cargo", "build", "--locked"], cwd=ROOT, check=True)
    return str(ROOT / "target/debug/busline")


def until(what, holds):
    """Waits for something that only asking shows."""
    end = time.monotonic() + PATIENCE
    while not holds():
        must(time.monotonic() < end, f"never: {what}")
        time.sleep(0.02)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Programs:
    """Programs that run until the block ends, all that they write in one folder."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="busline-proxies-"))
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in self.running:
            process.kill()
            process.wait()
        if kind:
            for log in sorted(self.folder.glob("*.log")):
                print(f"-- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
        shutil.rmtree(self.folder)

    def start(self, name, command, ports, env=None):
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder
            )
        self.running.append(process)

        def is_up():
            must(process.poll() is None, f"{name} ended with {process.returncode}")
            return all(listens(port) for port in ports)

        until(f"{name} listens", is_up)
        return process

    def busline(self, name, binary, listen, **settings):
        """A server with the settings of the page, but at a port of its own, and with these on top."""
        must(len(listen) == 2, "an address of TCP and a Unix socket")
        admin = free_port()
        addresses = ", ".join(f'"{address}"' for address in listen)
        text = changed(block("toml"), {'listen = ["127.0.0.1:8080"]': f"listen = [{addresses}]"})
        file = self.folder / f"{name}.toml"
        file.write_text(text)
        env = {key: value for key, value in os.environ.items() if not key.startswith("BUSLINE_")}
        env |= {f"BUSLINE_{key.upper()}": value for key, value in settings.items()}
        command = [binary, "--config", str(file), "--admin", f"127.0.0.1:{admin}", "--threads", "1"]
        port = int(listen[0].rpartition(":")[2])
        return self.start(name, command, [port, admin], env), admin

    def certificate(self):
        """A certificate that signs itself, and its key."""
        files = self.folder / "cert.pem", self.folder / "key.pem"
        subject = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-days", "2"]
        made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-out", files[0], "-keyout", files[1]]
        subprocess.run([program("openssl"), "req", *made, *subject], check=True, capture_output=True)
        return files

    def nginx(self, ports, tls):
        """nginx with the page's server at each of these ports, each with changes of its own; with
        HTTP/2 at those of `tls`."""
        cert, key = self.certificate()
        secure = "listen 443 ssl http2;"
        must(f"`{secure}`" in PAGE.read_text(), "the page no longer says how nginx 1.22 speaks HTTP/2")
        servers = []
        for number, (port, changes) in enumerate(ports.items()):
            listen = secure.replace("443", f"127.0.0.1:{port}")
            listen += f" ssl_certificate {cert}; ssl_certificate_key {key};"
            own = {
                "$connection_upgrade": f"$connection_upgrade_{number}",
                "upstream busline": f"upstream busline_{number}",
                "http://busline": f"http://busline_{number}",
                "listen 80;": listen if port in tls else f"listen 127.0.0.1:{port};",
                "75s": f"{TIMEOUT}s",
            }
            servers.append(changed(changed(block("nginx"), changes), own))
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        paths = "".join(f"{kind}_temp_path {self.folder}/nginx-{kind};\n" for kind in kinds)
        file = self.folder / "nginx.conf"
        file.write_text(
            f"daemon off;\nmaster_process off;\npid {self.folder}/nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{paths}{''.join(servers)}}}\n"
        )
        command = [program("nginx"), "-e", "stderr", "-p", str(self.folder), "-c", str(file)]
        self.start("nginx", command, ports)

    def haproxy(self, name, port, server, changes):
        """HAProxy with the page's settings at this port, this server, and changes of its own."""
        stats = self.folder / f"{name}.sock"
        own = {
            "global\n": f"global\n    stats socket {stats}\n",
            "bind :80 ": f"bind 127.0.0.1:{port} ",
            "75s": f"{TIMEOUT}s",
            "inter 2s": "inter 200ms",
            # Each takes two open files, of which there may be few.
            "maxconn 20000": "maxconn 200",
        }
        line = "    server one 127.0.0.1:8080 check port 8081 inter 2s\n"
        text = changed(block("haproxy"), {line: f"    {server}\n", **changes})
        file = self.folder / f"{name}.cfg"
        file.write_text(changed(text, own))
        self.start(name, [program("haproxy"), "-db", "-f", str(file)], [port])
        return stats


# A client.


class Client:
    """A client of a proxy at this port, which answers pings."""

    used = 1

    def __init__(self, port, source=None, host=None, origin=None, more="", service="echo"):
        self.pings = 0
        self.source = source or self.other_address()
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (self.source, 0))
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"{HOST}:{port}" if host is None else host
        more += f"Origin: {origin}\r\n" if origin else ""
        self.socket.sendall(
            f"GET /ws/{service} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{more}\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            byte = self.stream.read(1)
            must(byte, f"the connection ended after {self.head!r}")
            self.head += byte
        self.head = self.head.decode()
        self.status = int(self.head.split(" ")[1])
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()
        must(self.status != 101 or accept in self.head, f"a wrong proof in {self.head}")

    @classmethod
    def other_address(cls):
        """One that no other client has had: the bound of an address is one client."""
        cls.used += 1
        return f"127.0.{cls.used // 250}.{cls.used % 250 + 2}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def joined(self):
        must(self.status == 101, f"{self.head}{self.text() if self.status != 101 else ''}")
        return self

    def text(self):
        """The text of an answer that is no upgrade; a proxy may keep the connection for another."""
        length = re.search(r"^content-length: (\d+)\r$", self.head, re.M | re.I)
        must(length, f"an answer has no length: {self.head}")
        return self.stream.read(int(length[1])).decode()

    def send(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 65536:
            length = b"\xfe" + struct.pack("!H", size)
        else:
            length = b"\xff" + struct.pack("!Q", size)
        whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + whole.to_bytes(size, "big"))

    def frame(self):
        """The next frame of any kind: its opcode and payload, or None at the end of the stream."""
        try:
            head = self.stream.read(2)
            if len(head) < 2:
                return None
            size = head[1]
            if size == 126:
                (size,) = struct.unpack("!H", self.stream.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self.stream.read(8))
            return head[0] & 15, self.stream.read(size)
        except ConnectionResetError:
            return None

    def message(self):
        """The next frame that is no ping, all of which are answered."""
        while (frame := self.frame()) and frame[0] == PING_FRAME:
            self.pings += 1
            self.send(PONG, frame[1])
        return frame

    def echoes(self, opcode, payload):
        self.send(opcode, payload)
        back = self.message()
        must(back == (opcode, payload), f"{len(payload)} bytes came back as {str(back)[:80]}")


# What is checked.


def messages_pass(port):
    with Client(port).joined() as client:
        client.echoes(TEXT, b"hello")
        client.echoes(BINARY, os.urandom(LARGE))
        for number in range(100):
            client.echoes(TEXT, b"%d" % number)


def the_page_of_the_own_host_may_connect_and_no_other(port):
    with Client(port, origin=f"http://{HOST}:{port}") as client:
        client.joined().echoes(TEXT, b"hello")
    for origin in [f"http://{HOST}:{port + 1}", "https://evil.example"]:
        with Client(port, origin=origin) as client:
            told = client.text()
            must(client.status == 403, f"{origin}: {client.head}")
            must("origin" in told or "page" in told, f"a 403 says {told!r}")


def another_host_is_refused_with_words(port):
    for host in ["evil.example", f"127.0.0.1.evil.example:{port}"]:
        with Client(port, host=host, origin=f"http://{host}") as client:
            told = client.text()
            must(client.status == 421 and "hosts" in told, f"{host}: {client.head}{told}")


def an_address_is_the_clients_own(port):
    """Of an address one client may be there; the proxy itself has but one address for all."""
    with Client(port).joined() as first, Client(port).joined():
        other = Client.other_address()
        for more in [
            "",
            f"X-Forwarded-For: {other}\r\n",
            f"X-Forwarded-For: {other},\r\nX-Forwarded-For: {other}\r\n",
            f"Forwarded: for={other}\r\n",
            f'Forwarded: for="{other}\r\n',
            f"X-Real-IP: {other}\r\n",
        ]:
            with Client(port, source=first.source, more=more) as second:
                told = second.text()
                must(second.status == 503, f"{more!r} gave another address: {second.head}")
                must("address" in told, f"a 503 says {told!r}")

    def joins():
        with Client(port, source=first.source) as again:
            return again.status == 101

    until("the place of a client that has left is free", joins)


def a_unix_socket_has_no_host_rule(port):
    """No page reaches a file by a changed address, so busline asks for no name there."""
    with Client(port, host="chat.example").joined() as client:
        client.echoes(TEXT, b"hello")


def a_unix_socket_has_no_addresses(port):
    with Client(port).joined() as first, Client(port, source=first.source).joined() as second:
        second.echoes(TEXT, b"hello")


def a_silent_client_is_kept_by_pings(port, pingless):
    """The second port leads to a server that pings nobody: there the proxy cuts the connection."""
    with Client(port).joined() as kept, Client(pingless).joined() as cut:
        # It answers pings until a message comes, which is its own.
        answering = ThreadPoolExecutor(1).submit(kept.message)
        began = time.monotonic()
        must(cut.message() is None, "a connection without pings got a message")
        silent = time.monotonic() - began
        must(TIMEOUT - 0.5 < silent < PATIENCE - 1, f"it was cut after {silent:.1f} s")
        until("pings came for twice the timeout", lambda: kept.pings >= PINGS or answering.done())
        must(time.monotonic() - began > TIMEOUT, "the pings came too soon")
        kept.send(TEXT, b"still here")
        told = answering.result(PATIENCE)
        must(told == (TEXT, b"still here"), f"{told} came after {kept.pings} pings")


def events_come_at_once_and_comments_keep_a_quiet_stream(port):
    address = ("127.0.0.1", port), PATIENCE, (Client.other_address(), 0)
    with socket.create_connection(*address) as reader, reader.makefile("rb") as stream:
        reader.sendall(f"GET /sse/ping HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())

        def reads(line):
            while (came := stream.readline()) != line:
                must(came, f"the stream ended before {line!r}")

        reads(b": busline\n")
        with Client(port, service="ping").joined() as client:
            client.send(TEXT, b"hello")
            reads(b"data: hello\n")
        began = time.monotonic()
        for _ in range(PINGS):
            reads(b":\n")
        must(time.monotonic() - began > TIMEOUT, "the comments came too soon")


def more_streams_than_a_browser_has_connections_share_one(port, certificate, plain):
    """As many as ten tabs open; a message comes to each of them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / str(number) for number in range(10)]
        url = f"https://{HOST}:{port}/sse/ping"
        command = [program("curl"), "-sN", "--http2", "--parallel", "--cacert", certificate]
        command += ["--resolve", f"{HOST}:{port}:127.0.0.1"]
        command += ["--max-time", str(2 * PATIENCE)]
        for file in files:
            command += ["-o", file, url]
        # The meter of parallel transfers goes there.
        curl = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            def have(text):
                return lambda: all(file.exists() and text in file.read_bytes() for file in files)

            until("ten streams begin", have(b": busline\n"))
            with Client(plain, service="ping").joined() as client:
                client.send(TEXT, b"hello")
                until("ten streams have the message", have(b"data: hello\n"))
            must(connections(port) == 1, f"{connections(port)} connections have ten streams")
        finally:
            curl.kill()
            curl.wait(PATIENCE)


def connections(port):
    """The connections that a server has at this port, as Linux tells."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def a_proxy_without_the_settings_is_named(old_http, stripped):
    for port, words in [(old_http, "came as HTTP/1.0"), (stripped, "came without `Upgrade: websocket`")]:
        with Client(port) as client:
            told = client.text()
            must(client.status == 426 and words in told, f"{client.head}{told}")
            must("proxy_http_version 1.1;" in told, told)


def the_check_of_health_is_answered(stats):
    def status():
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(stats))
            client.sendall(b"show stat\n")
            lines = client.makefile().read().strip().splitlines()
        names = lines[0].lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","))) for line in lines[1:]]
        server = next(row for row in rows if row["svname"] == "one")
        return server["status"], server["check_status"], server["check_code"]

    until("the check is done", lambda: status()[1].startswith("L"))
    must(status() == ("UP", "L7OK", "200"), f"the check said {status()}")


def a_stop_is_passed_on(server, ports):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(port).joined()) for port in ports]
        for client in clients:
            client.echoes(TEXT, b"hello")
        server.send_signal(signal.SIGTERM)
        for client, port in zip(clients, ports):
            told = client.message()
            must(told and told[0] == CLOSE and told[1][:2] == b"\x03\xe9", f"{port}: {told}")
            client.send(CLOSE, told[1][:2])
            must(client.frame() is None, f"{port}: something came after the end")
    must(server.wait(PATIENCE) == 0, f"the server ended with {server.returncode}")


def check(what, function, *arguments):
    function(*arguments)
    print(f"ok: {what}: {function.__name__.replace('_', ' ')}", flush=True)


class Places:
    """Where the servers are: busline, one that pings nobody, and the proxies before them."""

    def __init__(self, programs):
        binary = busline_binary()
        self.unix = programs.folder / "busline.sock"
        self.tcp, self.pingless = (f"127.0.0.1:{free_port()}" for _ in range(2))
        bounds = {"limits_sessions_per_address": "1", "max_message_bytes": str(LARGE)}
        self.server, self.admin = programs.busline(
            "busline", binary, [self.tcp, f"unix:{self.unix}"], limits_ping_interval=PING, **bounds
        )
        _, self.admin_pingless = programs.busline(
            "silent", binary, [self.pingless, f"unix:{self.unix}-silent"],
            limits_ping_interval="0s", **bounds
        )
        self.nginx = self.start_nginx(programs)
        self.haproxy, self.stats = self.start_haproxy(programs)

    def start_nginx(self, programs):
        text = block("nginx")
        one = "server 127.0.0.1:8080;"
        by_unix = re.search(r"or: (server unix:\S+;)", text)
        must(by_unix, "the page no longer says how nginx uses a Unix socket")
        upgrade = re.findall(r"^ +proxy_set_header (?:Upgrade|Connection) .*\n", text, re.M)
        must(len(upgrade) == 2, "the page no longer sets Upgrade and Connection")
        stripped = {one: f"server {self.tcp};", **dict.fromkeys(upgrade, "")}
        kinds = {
            "tcp": {one: f"server {self.tcp};"},
            "unix": {one: changed(by_unix[1], {"/run/busline/busline.sock": str(self.unix)})},
            "appends": {one: f"server {self.tcp};", "$remote_addr": "$proxy_add_x_forwarded_for"},
            "pingless": {one: f"server {self.pingless};"},
            # As by a Unix socket: one client has many streams.
            "http2": {one: changed(by_unix[1], {"/run/busline/busline.sock": str(self.unix)})},
            "stripped": stripped,
            "old http": {**stripped, "proxy_http_version 1.1;": "proxy_http_version 1.0;"},
        }
        must("`$proxy_add_x_forwarded_for`" in PAGE.read_text(), "the page no longer says how nginx appends")
        ports = {kind: free_port() for kind in kinds}
        programs.nginx({ports[kind]: changes for kind, changes in kinds.items()}, {ports["http2"]})
        self.certificate = programs.folder / "cert.pem"
        return ports

    def start_haproxy(self, programs):
        page = PAGE.read_text()
        line = re.search(r"^ +(server one 127.*)\n", block("haproxy"), re.M)
        by_unix = re.search(r"`(server one unix@[^`]*)`", page)
        must(line and by_unix, "the page no longer names a server of HAProxy")
        must("`option\n  forwardfor`" in page, "the page no longer says how HAProxy appends")
        line, at = line[1], "127.0.0.1:8080"
        admin = {"8081": str(self.admin)}
        own = changed(line, {at: self.tcp, **admin})
        set_header = "http-request set-header X-Forwarded-For %[src]"
        kinds = {
            "tcp": (own, {}),
            "unix": (changed(by_unix[1], {"/run/busline/busline.sock": str(self.unix), **admin}), {}),
            "appends": (own, {set_header: "option forwardfor"}),
            "pingless": (
                changed(line, {at: self.pingless, "8081": str(self.admin_pingless)}), {}
            ),
        }
        ports = {kind: free_port() for kind in kinds}
        stats = [
            programs.haproxy(f"haproxy-{kind}", ports[kind], server, changes)
            for kind, (server, changes) in kinds.items()
        ]
        return ports, stats


def run(programs):
    for name in ["nginx", "haproxy"]:
        version = subprocess.run([program(name), "-v"], capture_output=True, text=True)
        print((version.stdout + version.stderr).splitlines()[0], flush=True)
    places = Places(programs)
    for name, ports in [("nginx", places.nginx), ("haproxy", places.haproxy)]:
        for kind in ["tcp", "unix"]:
            check(f"{name} {kind}", messages_pass, ports[kind])
            check(f"{name} {kind}", the_page_of_the_own_host_may_connect_and_no_other, ports[kind])
        check(f"{name} tcp", another_host_is_refused_with_words, ports["tcp"])
        check(f"{name} unix", a_unix_socket_has_no_host_rule, ports["unix"])
        for kind in ["tcp", "appends"]:
            check(f"{name} {kind}", an_address_is_the_clients_own, ports[kind])
        check(f"{name} unix", a_unix_socket_has_no_addresses, ports["unix"])
        check(name, a_silent_client_is_kept_by_pings, ports["tcp"], ports["pingless"])
        for kind in ["tcp", "unix"]:
            check(f"{name} {kind}", events_come_at_once_and_comments_keep_a_quiet_stream, ports[kind])
    check(
        "nginx http2", more_streams_than_a_browser_has_connections_share_one,
        places.nginx["http2"], places.certificate, places.nginx["unix"],
    )
    changed_by = places.nginx["old http"], places.nginx["stripped"]
    check("nginx", a_proxy_without_the_settings_is_named, *changed_by)
    for stats in places.stats:
        check(stats.stem, the_check_of_health_is_answered, stats)
    ports = [proxy[kind] for proxy in (places.nginx, places.haproxy) for kind in ("tcp", "unix")]
    check("both", a_stop_is_passed_on, places.server, ports)


def main():
    began = time.monotonic()
    try:
        with Programs() as programs:
            run(programs)
    except Wrong as wrong:
        sys.exit(f"WRONG: {wrong}")
    print(f"all is as docs/proxies.md says ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
