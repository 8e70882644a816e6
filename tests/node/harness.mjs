// A server of its own for a test, a proxy that cuts and stalls the connections to it, a client that
// checks the offset of each message it gets, and a browser.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import WebSocket from "ws";

/** A busline that runs from a configuration; killed with the test. */
export class Server {
  constructor(program, config) {
    this.program = program;
    this.file = join(mkdtempSync(join(tmpdir(), "busline-")), "busline.toml");
    writeFileSync(this.file, config);
    this.port = 0;
  }

  async start() {
    const listen = ["--listen", `127.0.0.1:${this.port}`, "--admin", "off"];
    const arguments_ = ["--config", this.file, ...listen];
    this.child = spawn(this.program, arguments_, { stdio: ["ignore", "pipe", "inherit"] });
    process.once("exit", () => this.child.kill("SIGKILL"));
    for await (const line of createInterface({ input: this.child.stdout })) {
      const found = /http:\/\/[^:]+:(\d+)/.exec(line);
      if (found) {
        this.port = Number(found[1]);
        this.child.stdout.resume();
        return this;
      }
    }
    throw new Error("the server did not start");
  }

  /** Stops it as an operator does. */
  async stop() {
    const ended = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await ended;
  }

  async kill() {
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }
}

/** A TCP proxy: it cuts its connections, or stalls them as a partition does. */
export class Proxy {
  pairs = new Set();
  accepted = 0;
  /** The bytes for the client after which a connection is cut. */
  most = Infinity;
  #isDark = false;

  async start(port) {
    this.target = port;
    this.server = net.createServer((client) => this.#join(client));
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.port = this.server.address().port;
    this.server.unref();
    return this;
  }

  #join(client) {
    this.accepted += 1;
    if (this.#isDark) return client.destroy();
    const server = net.connect(this.target, "127.0.0.1");
    const pair = { client, server };
    server.on("data", () => server.bytesRead > this.most && setImmediate(() => client.destroy()));
    this.pairs.add(pair);
    for (const [from, to] of [[client, server], [server, client]]) {
      from.setNoDelay();
      from.on("data", (data) => to.write(data) || from.pause());
      to.on("drain", () => pair.isStalled || from.resume());
      from.on("error", () => {});
      from.on("close", () => {
        to.destroy();
        this.pairs.delete(pair);
      });
    }
  }

  cut() {
    for (const { client, server } of this.pairs) {
      client.destroy();
      server.destroy();
    }
  }

  /** Takes no connection until `light`. */
  dark() {
    this.#isDark = true;
    this.cut();
  }

  light() {
    this.#isDark = false;
  }

  stall() {
    for (const pair of this.pairs) {
      pair.isStalled = true;
      for (const socket of [pair.client, pair.server]) socket.pause();
    }
  }

  resume() {
    for (const pair of this.pairs) {
      pair.isStalled = false;
      for (const socket of [pair.client, pair.server]) socket.resume();
    }
  }
}

/** Waits for an event for which `isIt` holds. */
export function event(target, type, isIt = () => true) {
  return new Promise((resolve) => {
    const listener = (found) => {
      if (!isIt(found)) return;
      target.removeEventListener(type, listener);
      resolve(found);
    };
    target.addEventListener(type, listener);
  });
}

/** Short waits, so that a test has many of them. */
export const QUICK = { WebSocket, backoffMin: 10, backoffMax: 50, silence: 0 };

/**
 * A client with a record of its events. Each offset is the one after the last, unless a notice has
 * told a loss; `told` counts the messages that notices have told as missing.
 */
export function watched(Busline, url, options = {}) {
  const busline = new Busline(url, { ...QUICK, ...options });
  const seen = { messages: [], recovered: [], lagged: 0, told: 0, opens: 0, faults: [] };
  let next = null;
  let allowed = 0;
  busline.addEventListener("open", () => (seen.opens += 1));
  busline.addEventListener("message", ({ data, offset, from, recovered }) => {
    seen.messages.push({ data, offset, from, recovered });
    if (offset === undefined) return;
    const gap = offset - (next ?? offset);
    if (gap < 0 || gap > allowed) seen.faults.push(`${offset} came in the place of ${next}`);
    seen.told += gap;
    [next, allowed] = [offset + 1, 0];
  });
  busline.addEventListener("lagged", ({ messages }) => {
    seen.lagged += messages;
    allowed += messages;
  });
  busline.addEventListener("recovered", ({ recovered, why, epoch, offset }) => {
    seen.recovered.push({ recovered, why, epoch, offset });
    // A room with the newest message first has that message still to come.
    if (!recovered) [next, allowed] = [why === "off" ? null : offset + 1, 0];
  });
  busline.addEventListener("error", ({ error }) => seen.faults.push(String(error)));
  return { busline, seen };
}

/** Waits until a client has got this text. */
export const got = ({ busline, seen }, text) =>
  seen.messages.some(({ data }) => data === text)
    ? Promise.resolve()
    : event(busline, "message", ({ data }) => data === text);

/** A JSON Web Token, signed with a secret. */
export function token(secret, claims) {
  const part = (value) => Buffer.from(value).toString("base64url");
  const body = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(claims))}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

/** Runs tests one after the other, and says `ok` once all have passed. */
export async function run(tests) {
  for (const [name, test] of Object.entries(tests)) {
    const began = performance.now();
    const late = setTimeout(() => {
      console.error(`${name}: nothing happens any more`);
      process.exit(1);
    }, 60_000);
    try {
      await test();
    } catch (error) {
      console.error(`${name}: ${error.stack}`);
      process.exit(1);
    }
    clearTimeout(late);
    console.error(`${name}: passed in ${Math.round(performance.now() - began)} ms`);
  }
  console.log("ok");
  process.exit(0);
}

/** A page that is not in front draws no frames, so a condition is looked at by time. */
export const WAIT = { polling: 20, timeout: 90_000 };

/** Runs a test with a headless Chromium, and says `ok` once it has passed. */
export async function inBrowser(executablePath, test) {
  const { default: puppeteer } = await import("puppeteer-core");
  const browser = await puppeteer.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-timer-throttling",
      "--disable-backgrounding-occluded-windows",
      "--disable-renderer-backgrounding",
    ],
    timeout: 90_000,
    protocolTimeout: 90_000,
  });
  try {
    await test(browser);
    console.log("ok");
  } finally {
    await browser.close();
  }
  process.exit(0);
}

export { assert };
