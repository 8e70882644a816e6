// clients/js/busline.js against a real server, over connections that are cut, stalled and refused:
// each client has every message once, or is told what is missing. Called with the path of the
// server; says `ok` on standard output.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { runInNewContext } from "node:vm";
import { WebSocketServer } from "ws";
import { Busline, BuslineError } from "./busline.js";
import { assert, event, got, Proxy, QUICK, run, Server, token, watched } from "./harness.mjs";

const SECRET = "a secret of the tests, which is long enough";
const HISTORY = 'history = { messages = 10000, bytes = "128MiB", ttl = "5m" }';
const ROOMS = `
limits.ping_interval = "0s"
${["news", "once", "echoless", "json"].map((name) => `[room.${name}]\npublish = "members"\n${
  { news: HISTORY, once: `${HISTORY}\nclients = 1`, echoless: `${HISTORY}\necho = false`,
    json: `${HISTORY}\npayload = "json"` }[name]}`).join("\n")}
[room.short]
publish = "members"
history = { messages = 3, bytes = "1MiB", ttl = "5m" }
[room.few]
publish = "members"
history = { messages = 100, bytes = "1MiB", ttl = "5m", recovery_max = 2 }
[room.brief]
publish = "members"
history = { messages = 100, bytes = "1MiB", ttl = "200ms" }
[room.plain]
publish = "members"
[room.quiet]
publish = "nobody"
${HISTORY}
[room.slow]
publish = "members"
window = 4
slow_consumer = "recover"
max_message_bytes = 65536
${HISTORY}
[room.slowest]
publish = "members"
window = 4
slow_consumer = "recover"
history = { messages = 8, bytes = "1MiB", ttl = "5m" }
[room.off]
publish = "members"
recovery = "off"
${HISTORY}
[room.newest]
publish = "members"
recovery = "newest"
${HISTORY}
[room.again]
run = "ping"
publish = "members"
linger = "0s"
${HISTORY}
`;

const program = process.argv[2];
const only = process.argv[3];
const server = await new Server(program, ROOMS).start();
const proxy = await new Proxy().start(server.port);
let room = 0;
const direct = (path) => `ws://127.0.0.1:${server.port}/ws/${path}`;
const proxied = (path) => `ws://127.0.0.1:${proxy.port}/ws/${path}`;

/** A reader through the proxy and a writer beside it, both in a room of their own. */
async function pair(kind, options = {}) {
  const path = `${kind}/${(room += 1)}`;
  const reader = watched(Busline, proxied(path), options);
  await joined(reader.busline);
  const { WebSocket } = { ...QUICK, ...options };
  const writer = watched(Busline, direct(path), { WebSocket });
  await joined(writer.busline);
  return { path, reader, writer, write: (text) => writer.busline.publish(text) };
}

/** Waits until the server has answered: the client is in the room then, not only connected. */
async function joined(busline) {
  await event(busline, "open");
  await busline.history({ limit: 0 }).catch((error) => assert.equal(error.outcome, "refused"));
}

const close = (...clients) => clients.forEach(({ busline }) => busline.close());
const texts = (from, until) =>
  Array.from({ length: until - from }, (_, index) => String(from + index));

/** Cuts the reader off, runs `meanwhile`, lets it come back, and returns what it is told. */
async function away({ busline }, meanwhile) {
  proxy.dark();
  await event(busline, "reconnecting");
  await meanwhile();
  const told = event(busline, "recovered");
  proxy.light();
  return told;
}

/** A server that says these frames, those of one list on each connection; `cut` ends it. */
async function pretended(said) {
  const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(fake, "listening");
  const asked = [];
  fake.on("connection", (socket, { url }) => {
    asked.push(url);
    for (const frame of said.shift()) frame === "cut" ? socket.close() : socket.send(frame);
  });
  return { asked, port: fake.address().port, close: () => fake.close() };
}

/** The client of the documentation, with the messages and the losses that it tells. */
function followed(url) {
  const page = readFileSync(new URL("./subprotocol.md", import.meta.url), "utf8");
  const code = /```js\n(function follow.*?)```/s.exec(page)[1];
  const follow = new Function("WebSocket", "location", "setTimeout", `${code}; return follow`);
  const [had, losses, heard] = [[], [], new EventTarget()];
  let socket;
  class Last extends QUICK.WebSocket {
    constructor(address, names) {
      super(address, names);
      socket = this;
      this.addEventListener("message", () => heard.dispatchEvent(new Event("frame")));
      this.addEventListener("close", () => heard.dispatchEvent(new Event("close")));
      // A browser has no unhandled errors of a socket: the client sees the close.
      this.addEventListener("error", () => {});
    }
  }
  const soon = (run) => setTimeout(run, 10);
  follow(Last, {}, soon)(url, {
    onMessage(data, { offset }) {
      had.push([typeof data === "string" ? data : [...new Uint8Array(data)], offset]);
      heard.dispatchEvent(new Event("message"));
    },
    onLoss: (why) => losses.push(why),
  });
  return {
    had,
    losses,
    /** Waits for the next frame: on a new connection, the client is in the room then. */
    stands: () => event(heard, "frame"),
    lost: () => event(heard, "close"),
    async got(text) {
      while (had.every(([data]) => data !== text)) await event(heard, "message");
    },
    close() {
      socket.onclose = null;
      socket.close();
    },
  };
}

const tests = {
  async "a client has every message once, however often its connection is cut"() {
    const { reader, writer, write } = await pair("news");
    for (let number = 0; number < 400; number += 1) {
      const position = await write(String(number));
      assert.equal(position.offset, number + 1);
      if (number === 0) await got(reader, "0");
      if (number % 7 === 3) proxy.cut();
      if (number % 31 === 5) await got(reader, String(number));
    }
    await got(reader, "399");
    assert.deepEqual(reader.seen.messages.map(({ data }) => data), texts(0, 400));
    assert.deepEqual(reader.seen.faults, []);
    assert.ok(reader.seen.recovered.length > 5);
    assert.ok(reader.seen.recovered.every(({ recovered }) => recovered));
    assert.ok(reader.seen.messages.some(({ recovered }) => recovered));
    assert.equal(reader.seen.messages[0].recovered, false);
    close(reader, writer);
  },

  async "a client that is cut in the midst of a recovery goes on from there"() {
    const { reader, writer, write } = await pair("news");
    await write("0");
    await got(reader, "0");
    const text = randomBytes(3_000).toString("base64");
    const cuts = proxy.accepted;
    const told = await away(reader, async () => {
      for (const number of texts(1, 300)) await write(`${number} ${text}`);
      await write("last");
      proxy.most = 200_000;
    });
    assert.equal(told.offset, 301);
    await got(reader, "last");
    proxy.most = Infinity;
    assert.ok(proxy.accepted > cuts + 3, "it was cut");
    assert.deepEqual(reader.seen.messages.map(({ offset }) => String(offset)), texts(1, 302));
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },

  async "the client of the documentation has every message once"() {
    const path = `news/${(room += 1)}`;
    const client = followed(proxied(path));
    await client.stands();
    const writer = watched(Busline, direct(path));
    await joined(writer.busline);
    for (let number = 0; number < 100; number += 1) {
      const cut = number % 40 === 20 && client.got(String(number));
      await writer.busline.publish(String(number));
      await cut;
      if (cut) proxy.cut();
    }
    await client.got("99");
    assert.deepEqual(client.had, texts(0, 100).map((text) => [text, Number(text) + 1]));
    assert.deepEqual(client.losses, []);
    client.close();
    close(writer);
  },

  async "the client of the documentation has the newest message, and the one after it"() {
    const path = `newest/${(room += 1)}`;
    const writer = watched(Busline, direct(path));
    await joined(writer.busline);
    for (const text of texts(1, 4)) await writer.busline.publish(text);
    const client = followed(proxied(path));
    await client.got("3");
    await writer.busline.publish("4");
    await client.got("4");
    proxy.cut();
    await client.stands();
    await writer.busline.publish("5");
    await client.got("5");
    assert.deepEqual(client.losses, [], "the newest message was there already");
    proxy.dark();
    for (const text of texts(6, 9)) await writer.busline.publish(text);
    proxy.light();
    await client.got("8");
    await writer.busline.publish("9");
    await client.got("9");
    const wanted = ["3", "4", "5", "8", "9"].map((text) => [text, Number(text)]);
    assert.deepEqual(client.had, wanted);
    assert.deepEqual(client.losses, ["off"]);
    client.close();
    close(writer);
  },

  async "the client of the documentation has the older messages that its address asks for"() {
    const path = `news/${(room += 1)}`;
    const writer = watched(Busline, direct(path));
    await joined(writer.busline);
    for (const text of texts(1, 6)) await writer.busline.publish(text);
    const client = followed(`${proxied(path)}?history=2`);
    await client.got("5");
    await writer.busline.publish("6");
    await client.got("6");
    proxy.dark();
    for (const text of texts(7, 10)) await writer.busline.publish(text);
    proxy.light();
    await client.got("9");
    assert.deepEqual(client.had, texts(4, 10).map((text) => [text, Number(text)]));
    assert.deepEqual(client.losses, []);
    client.close();
    close(writer);
  },

  async "the client of the documentation tells bytes with an offset from bytes without one"() {
    const said = [
      ['{"position":{"epoch":"e","offset":4}}', '{"binary":{"offset":5}}', Buffer.of(5),
        Buffer.of(0), '{"text":"live"}', '{"position":{"epoch":"e","offset":7}}',
        '{"text":"8","offset":8}', '{"text":"10","offset":10}', '{"lagged":1}',
        '{"text":"10","offset":10}'],
      ['{"recovered":true,"epoch":"e","offset":9}', '{"text":"8","offset":8}',
        '{"binary":{"offset":9}}', Buffer.of(9), '{"lagged":2}', '{"text":"12","offset":12}',
        "cut"],
      ['{"recovered":false,"why":"ahead","epoch":"e","offset":3}', '{"text":"4","offset":4}',
        "cut"],
      ['{"recovered":false,"why":"epoch","epoch":"f","offset":0}', '{"text":"1","offset":1}',
        '{"text":"2","offset":2}', "cut"],
      ['{"position":{"epoch":"g","offset":2}}', '{"text":"two","offset":2}', "cut"],
      ['{"refused":{"code":4400,"reason":"bad"}}', "cut"],
    ];
    const fake = await pretended(said);
    const client = followed(`ws://127.0.0.1:${fake.port}/ws/a`);
    for (let lost = 0; lost < 6; lost += 1) await client.lost();
    assert.deepEqual(client.had, [[[5], 5], [[0], undefined], ["live", undefined], ["8", 8],
      [[9], 9], ["12", 12], ["4", 4], ["1", 1], ["2", 2], ["two", 2]]);
    assert.deepEqual(client.losses, ["lagged", "ahead", "epoch", "off"]);
    // Long enough for another try, which a refusal without `retry` ends.
    await new Promise((wake) => setTimeout(wake, 50));
    const shown = ["e%3A8", "e%3A12", "e%3A4", "f%3A2", "g%3A2"];
    assert.deepEqual(fake.asked, ["/ws/a", ...shown.map((place) => `/ws/a?since=${place}`)]);
    client.close();
    fake.close();
  },

  async "a gap without a notice ends the connection, and no offset is handed over twice"() {
    const said = [
      ['{"position":{"epoch":"e","offset":4}}', '{"text":"5","offset":5}',
        '{"unknown":1}', '{"text":"5","offset":5}', '{"text":"7","offset":7}'],
      ['{"recovered":true,"epoch":"e","offset":7}', '{"text":"6","offset":6}',
        '{"text":"7","offset":7}', '{"lagged":3}', '{"text":"10","offset":10}', "cut"],
      ['{"recovered":false,"why":"evicted","epoch":"e","offset":20}', '{"text":"22","offset":22}'],
      ['{"recovered":true,"epoch":"e","offset":22}', '{"text":"21","offset":21}',
        '{"binary":{"offset":22}}', Buffer.of(22), Buffer.of(0), '{"text":"end"}'],
    ];
    const fake = await pretended(said);
    const busline = new Busline(`http://127.0.0.1:${fake.port}/ws/a?b=c`, QUICK);
    const had = [];
    busline.addEventListener("message", ({ data, offset, recovered }) => {
      had.push(typeof data === "string" ? [data, recovered] : [...new Uint8Array(data), offset]);
    });
    busline.addEventListener("lagged", ({ messages }) => had.push(messages));
    busline.addEventListener("error", ({ error }) => had.push(error.message));
    await event(busline, "message", ({ data }) => data === "end");
    assert.deepEqual(had, [["5", false], "the message 6 is missing: 7 came", ["6", true],
      ["7", true], 3, ["10", false], "the message 21 is missing: 22 came", ["21", true],
      [22, 22], [0, undefined], ["end", false]]);
    const places = [5, 10, 20].map((offset) => `/ws/a?b=c&since=e%3A${offset}`);
    assert.deepEqual(fake.asked, ["/ws/a?b=c", ...places]);
    busline.close();
    fake.close();
  },

  async "a token that cannot be judged now is sent again"() {
    const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(fake, "listening");
    const shown = [];
    fake.on("connection", (socket) => {
      socket.on("message", (data) => {
        shown.push(JSON.parse(data).token);
        socket.send(shown.length < 3 ? '{"token":"try again"}' : '{"token":"accepted"}');
      });
    });
    const tokens = Array.from({ length: 4 }, (_, index) =>
      token(SECRET, { exp: Date.now() / 1000 + (index < 3 ? 0.5 : 600), jti: index }));
    const wanted = tokens.slice(1);
    const url = `ws://127.0.0.1:${fake.address().port}/ws/a`;
    const { busline } = watched(Busline, url, { token: () => tokens.shift() });
    await event(busline, "renewed");
    assert.deepEqual(shown, wanted);
    busline.close();
    fake.close();
  },

  async "a silent connection is noticed, and nothing of it is read after it"() {
    const { reader, writer, write } = await pair("news", { silence: 100, patience: 200 });
    for (let round = 0; round < 5; round += 1) {
      const gone = [...proxy.pairs].map(({ client }) => once(client, "close"));
      proxy.stall();
      const told = event(reader.busline, "recovered");
      for (const text of texts(round * 10, round * 10 + 10)) await write(text);
      assert.equal((await told).recovered, true);
      proxy.resume();
      // The late frames of the old connection have come by then.
      await Promise.all(gone);
      await got(reader, String(round * 10 + 9));
    }
    assert.deepEqual(reader.seen.messages.map(({ data }) => data), texts(0, 50));
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },

  async "a quiet connection stays, as the server answers"() {
    const sent = new EventTarget();
    class Counting extends QUICK.WebSocket {
      send(data) {
        super.send(data);
        sent.dispatchEvent(new Event("send"));
      }
    }
    const options = { WebSocket: Counting, silence: 20, patience: 30_000 };
    const { reader, writer, write } = await pair("plain", options);
    const { accepted } = proxy;
    for (let probes = 0; probes < 5; probes += 1) await event(sent, "send");
    await write("still here");
    await got(reader, "still here");
    assert.equal(proxy.accepted, accepted);
    close(reader, writer);
  },

  async "a client away for more than is kept is told why"() {
    for (const [kind, count, why] of [["short", 5, "evicted"], ["few", 3, "too_many"]]) {
      const { reader, writer, write } = await pair(kind);
      await write("first");
      await got(reader, "first");
      const told = await away(reader, async () => {
        for (const text of texts(0, count)) await write(text);
      });
      assert.deepEqual([told.recovered, told.why, told.offset], [false, why, count + 1]);
      await write("last");
      await got(reader, "last");
      assert.deepEqual(reader.seen.messages.map(({ offset }) => offset), [1, count + 2]);
      assert.deepEqual(reader.seen.faults, []);
      close(reader, writer);
    }
  },

  async "a client away for longer than messages are kept is told so"() {
    const { reader, writer, write } = await pair("brief");
    const told = await away(reader, async () => {
      await write("missed");
      while ((await writer.busline.history()).messages.length > 0);
    });
    assert.deepEqual([told.recovered, told.why, told.offset], [false, "expired", 1]);
    await write("next");
    await got(reader, "next");
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },

  async "a room without recovery, or with the newest message first, makes no promise"() {
    for (const kind of ["off", "newest"]) {
      const { path, reader, writer, write } = await pair(kind);
      await write("first");
      await got(reader, "first");
      proxy.dark();
      await event(reader.busline, "reconnecting");
      for (const text of texts(0, 3)) await write(text);
      const open = event(reader.busline, "open");
      proxy.light();
      await open;
      if (kind === "off") await reader.busline.history({ limit: 0 });
      await write("last");
      await got(reader, "last");
      const offsets = reader.seen.messages.map(({ offset }) => offset);
      assert.deepEqual(offsets, kind === "off" ? [1, 5] : [1, 4, 5], path);
      assert.deepEqual(reader.seen.recovered.map(({ why }) => why), ["off"]);
      if (kind === "newest") {
        const back = event(reader.busline, "open");
        proxy.cut();
        await back;
        await reader.busline.history({ limit: 0 });
        assert.equal(reader.seen.messages.length, 3, "the newest message was there already");
      }
      assert.deepEqual(reader.seen.faults, []);
      close(reader, writer);
    }
  },

  async "older messages come first where the address asks for them"() {
    const { path, reader, writer, write } = await pair("news");
    for (const text of texts(0, 5)) await write(text);
    const late = watched(Busline, `${proxied(path)}?history=2`);
    await got(late, "4");
    await write("5");
    await got(late, "5");
    assert.deepEqual(late.seen.messages.map(({ data, recovered }) => [data, recovered]),
      [["3", true], ["4", true], ["5", false]]);
    assert.deepEqual(late.seen.faults, []);
    const from = { ...late.busline.position, offset: 1 };
    const visit = watched(Busline, proxied(path), { since: from });
    await got(visit, "5");
    assert.deepEqual(visit.seen.messages.map(({ data }) => data), texts(1, 6));
    close(reader, writer, late, visit);
  },

  async "a client that reads slowly reads from the history, or is told how much is lost"() {
    // More than the sockets between the two take, as it is not compressed.
    const text = "x".repeat(40_000);
    class Plain extends QUICK.WebSocket {
      constructor(url, names) {
        super(url, names, { perMessageDeflate: false });
      }
    }
    for (const [kind, count] of [["slow", 200], ["slowest", 200]]) {
      const { reader, writer, write } = await pair(kind, { WebSocket: Plain });
      await write("first");
      await got(reader, "first");
      proxy.stall();
      for (let number = 0; number < count; number += 1) await write(`${number} ${text}`);
      proxy.resume();
      await write("last");
      await got(reader, "last");
      assert.deepEqual(reader.seen.faults, []);
      const { messages, lagged, told } = reader.seen;
      assert.equal(messages.length + told, count + 2);
      assert.equal(lagged, told);
      assert.equal(lagged > 0, kind === "slowest", `${kind}: ${lagged} of ${count}`);
      close(reader, writer);
    }
  },

  async "a publish is answered with its place, and a live one has none"() {
    const { reader, writer, write } = await pair("news");
    const { epoch } = await write("kept");
    assert.match(epoch, /^[0-9a-f]{16}$/);
    assert.equal(await writer.busline.publish("live", { live: true }), undefined);
    assert.equal((await write("half \ud83d")).offset, 2);
    await got(reader, "half \ufffd");
    assert.deepEqual(reader.seen.messages.map(({ offset }) => offset), [1, undefined, 2]);
    assert.deepEqual(Object.keys(reader.seen.messages[0].from).sort(), ["client", "subject"]);
    await writer.busline.publish(Uint8Array.of(1, 2, 255));
    const { data, offset, from } = await event(reader.busline, "message");
    assert.deepEqual([[...new Uint8Array(data)], offset], [[1, 2, 255], 3]);
    assert.deepEqual(from, reader.seen.messages[0].from);
    const page = await reader.busline.history({ limit: 2, reverse: true });
    assert.deepEqual(page.messages.map((message) => message.offset), [3, 2]);
    assert.deepEqual([...new Uint8Array(page.messages[0].data)], [1, 2, 255]);
    assert.deepEqual([page.epoch, page.offset], [epoch, 3]);
    const after = await reader.busline.history({ since: { epoch, offset: 1 } });
    assert.deepEqual(after.messages.map((message) => message.offset), [2, 3]);
    assert.deepEqual(reader.busline.position, { epoch, offset: 3 });
    const other = { epoch: "0".repeat(16), offset: 1 };
    await assert.rejects(reader.busline.history({ since: other }), { code: 112 });
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },

  async "a refused request says why"() {
    for (const [kind, request, code] of [
      ["json", (busline) => busline.publish("no JSON"), 107],
      ["quiet", (busline) => busline.publish("hello"), 103],
      ["plain", (busline) => busline.history(), 108],
      ["news", (busline) => busline.history({ since: { epoch: "x", offset: 1 } }), 107],
    ]) {
      const { reader, writer } = await pair(kind);
      await assert.rejects(request(reader.busline), (error) => {
        assert.ok(error instanceof BuslineError);
        assert.deepEqual([error.outcome, error.code], ["refused", code], kind);
        return true;
      });
      close(reader, writer);
    }
    const { reader, writer } = await pair("plain");
    assert.equal(await writer.busline.publish("no history"), undefined);
    assert.equal(await writer.busline.publish("live", { live: true }), undefined);
    close(reader, writer);
    await assert.rejects(reader.busline.publish("closed"), { outcome: "unsent" });
  },

  async "a service is asked, and answers or refuses"() {
    const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(fake, "listening");
    const asked = [];
    fake.on("connection", (socket) =>
      socket.on("message", (text) => {
        const { id, request } = JSON.parse(text);
        asked.push(request);
        const error = { code: 404, message: "there is no such method" };
        const reply = request.method === "add" ? { answer: { data: [3] } } : { error };
        socket.send(JSON.stringify({ id, ...reply }));
      }),
    );
    const { busline } = watched(Busline, `ws://127.0.0.1:${fake.address().port}/ws/till/1`);
    await event(busline, "open");
    assert.deepEqual(await busline.request("add", { by: 3 }), [3]);
    const refused = await busline.request("nonsense").catch((error) => error);
    assert.deepEqual([refused.outcome, refused.code], ["refused", 404]);
    assert.deepEqual(asked, [{ method: "add", data: { by: 3 } }, { method: "nonsense", data: null }]);
    busline.close();
    fake.close();
    // The real server has no service here that answers.
    const { reader } = await pair("news");
    const none = await reader.busline.request("add", 1).catch((error) => error);
    assert.deepEqual([none.outcome, none.code], ["refused", 108]);
    close(reader);
  },

  async "data of another type are refused at once, and nothing is sent"() {
    const { reader, writer, write } = await pair("news");
    const others = [undefined, null, 7, 7n, true, {}, ["text"], new String("text"), Symbol("text")];
    for (const data of others) await assert.rejects(writer.busline.publish(data), TypeError);
    await assert.rejects(writer.busline.publish(Uint8Array.of(1), { live: true }), TypeError);
    const bytes = Uint8Array.of(1, 2, 3);
    const view = new DataView(bytes.buffer, 1);
    const other = runInNewContext("new Uint8Array([4]).buffer");
    for (const data of [bytes, bytes.buffer, view, other, new Blob([bytes])]) {
      await writer.busline.publish(data);
    }
    await write("last");
    await got(reader, "last");
    const had = reader.seen.messages.map(({ data }) => data);
    assert.deepEqual(had.slice(0, -1).map((data) => [...new Uint8Array(data)]),
      [[1, 2, 3], [1, 2, 3], [2, 3], [4], [1, 2, 3]]);
    close(reader, writer);
    await assert.rejects(writer.busline.publish(7), TypeError);
    await assert.rejects(writer.busline.publish(bytes), { outcome: "unsent" });
  },

  async "a client that a backend has closed for good does not come back, and another one does"() {
    for (const [code, comesBack] of [
      [3499, true], [3500, false], [3999, false], [4000, true], [4500, false], [4999, false],
      [1000, true], [1013, true],
    ]) {
      const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
      await once(fake, "listening");
      fake.on("connection", (socket) => socket.close(code, "go"));
      const busline = new Busline(`ws://127.0.0.1:${fake.address().port}/ws/a`, QUICK);
      const first = ["close", "reconnecting"].map((type) => event(busline, type));
      assert.equal((await Promise.race(first)).type, comesBack ? "reconnecting" : "close", `${code}`);
      busline.close();
      fake.close();
    }
  },

  async "a close with any code and reason ends the client, and the server is told what fits"() {
    const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(fake, "listening");
    const told = new EventTarget();
    fake.on("connection", (socket) => socket.on("close", (code, reason) =>
      told.dispatchEvent(Object.assign(new Event("close"), { code, reason: String(reason) }))));
    const [long, wide] = ["x".repeat(200), `xy${"\u{1f600}".repeat(50)}`];
    for (const [code, reason, gotCode, gotReason] of [
      [1000, "bye", 1000, "bye"],
      [4999, long, 4999, long.slice(0, 123)],
      [3000, wide, 3000, `xy${"\u{1f600}".repeat(30)}`],
      [1001, "", 4000, ""],
      [5000, "", 4000, ""],
      [3000.5, "", 4000, ""],
      ["no code", null, 4000, "null"],
    ]) {
      const { busline } = watched(Busline, `ws://127.0.0.1:${fake.address().port}/ws/a`);
      await event(busline, "open");
      const lost = assert.rejects(busline.publish("lost?"), { outcome: "unknown" });
      const [server, client] = [event(told, "close"), event(busline, "close")];
      busline.close(code, reason);
      assert.deepEqual([(await client).code, busline.isOpen], [code, false]);
      await lost;
      const { code: toldCode, reason: toldReason } = await server;
      assert.deepEqual([toldCode, toldReason], [gotCode, gotReason]);
    }
    fake.close();
  },

  async "a client that is refused without a time for another try stops"() {
    for (const [frames, code] of [
      [['{"refused":{"code":4400,"reason":"no position"}}'], 4400],
      [['{"refused":{"code":4321,"reason":"of a newer server"}}', "cut"], 4321],
    ]) {
      const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
      await once(fake, "listening");
      fake.on("connection", (socket) => {
        for (const frame of frames) frame === "cut" ? socket.terminate() : socket.send(frame);
        socket.close(code);
      });
      const { busline } = watched(Busline, `ws://127.0.0.1:${fake.address().port}/ws/a`);
      let again = 0;
      busline.addEventListener("reconnecting", () => (again += 1));
      assert.equal((await event(busline, "close")).code, code);
      assert.equal(again, 0);
      fake.close();
    }
  },

  async "a publish without a reply has an unknown outcome"() {
    const { reader, writer } = await pair("news");
    proxy.stall();
    const lost = assert.rejects(reader.busline.publish("lost?"), { outcome: "unknown" });
    proxy.cut();
    await lost;
    close(reader, writer);
  },

  async "the position rises over messages of the client itself"() {
    const { reader, writer, write } = await pair("echoless");
    for (const text of texts(0, 3)) await reader.busline.publish(text);
    await reader.busline.history({ limit: 0 });
    assert.equal(reader.busline.position.offset, 3);
    const told = await away(reader, () => write("other"));
    assert.equal(told.recovered, true);
    await got(reader, "other");
    assert.deepEqual(reader.seen.messages.map(({ offset }) => offset), [4]);
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },

  async "a client that finds no place comes again when it may"() {
    const path = `once/${(room += 1)}`;
    const first = watched(Busline, direct(path));
    await joined(first.busline);
    const second = watched(Busline, proxied(path));
    const refused = await event(second.busline, "refused");
    assert.deepEqual([refused.code, refused.retry], [4429, 1000]);
    const { delay } = await event(second.busline, "reconnecting");
    assert.ok(delay >= 1000, `${delay}`);
    close(first);
    await joined(second.busline);
    await second.busline.publish("in");
    await got(second, "in");
    close(second);
  },

  async "a client of a room that is not there stops"() {
    const { busline } = watched(Busline, proxied("nothing"));
    let again = 0;
    busline.addEventListener("reconnecting", () => (again += 1));
    assert.equal((await event(busline, "close")).code, 4404);
    assert.equal(again, 0);
  },

  async "a service of rooms that begins anew keeps what its instances have said"() {
    const { reader, writer, write } = await pair("again");
    await write("first");
    await got(reader, "first");
    proxy.dark();
    await event(reader.busline, "reconnecting");
    await write("second");
    await got(writer, "second");
    // The last client has left, so that another instance serves the next one.
    close(writer);
    const told = event(reader.busline, "recovered");
    proxy.light();
    const { recovered, offset } = await told;
    await reader.busline.publish("third");
    await got(reader, "third");
    assert.deepEqual([recovered, offset], [true, 2]);
    assert.deepEqual(reader.seen.faults, []);
    assert.deepEqual(reader.seen.messages.map(({ data }) => data), ["first", "second", "third"]);
    close(reader);
  },

  async "tokens are renewed on the connection, and a refused one is asked for anew once"() {
    const auth = `[auth]\nsecret = "${SECRET}"\nleeway = "0s"\n[room.news]\npublish = "members"\n`;
    const guarded = await new Server(program, `${auth}${HISTORY}`).start();
    const guard = await new Proxy().start(guarded.port);
    const url = `ws://127.0.0.1:${guard.port}/ws/news/1`;
    const good = (seconds) =>
      token(SECRET, { exp: Date.now() / 1000 + seconds, rooms: ["news:*"], sub: "ann" });
    let asked = 0;
    const short = watched(Busline, url, { token: async () => good((asked += 1) < 3 ? 2 : 600) });
    await joined(short.busline);
    for (let times = 0; times < 2; times += 1) await event(short.busline, "renewed");
    assert.deepEqual([asked, short.seen.opens, guard.accepted], [3, 1, 1]);
    close(short);

    const tokens = ["no.good.token", good(600), "no.good.token", "no.good.token"];
    const wrong = watched(Busline, url, { token: () => tokens.shift() });
    assert.equal((await event(wrong.busline, "refused")).code, 4401);
    await joined(wrong.busline);
    guard.cut();
    assert.equal((await event(wrong.busline, "close")).code, 4401);
    assert.equal(tokens.length, 0);
    assert.deepEqual(wrong.seen.faults, []);

    let fails = 2;
    const late = watched(Busline, url, {
      token() {
        if ((fails -= 1) >= 0) throw new Error("the issuer is away");
        return good(600);
      },
    });
    await joined(late.busline);
    assert.equal(late.seen.faults.length, 2);
    close(late);
    await guarded.kill();
  },

  async "tags that a backend gave a message come with it, again after a loss, and in a reading"() {
    const key = "k".repeat(32);
    const api = `api.public = true\n[[api.keys]]\nname = "backend"\nkey = "${key}"\n`;
    const own = await new Server(program, `${api}[room.news]\n${HISTORY}`).start();
    const publish = async (data, tags) => {
      const body = JSON.stringify({ channel: "news:1", ...data, tags });
      const url = `http://127.0.0.1:${own.port}/api/publish`;
      const answer = await fetch(url, { method: "POST", headers: { "X-API-Key": key }, body });
      assert.ok((await answer.json()).result);
    };
    const guard = await new Proxy().start(own.port);
    const reader = watched(Busline, `ws://127.0.0.1:${guard.port}/ws/news/1`);
    const tags = [];
    reader.busline.addEventListener("message", (message) => tags.push(message.tags));
    await joined(reader.busline);
    await publish({ data: 1 }, { unit: "EUR", a: '"' });
    await publish({ b64data: "AQI=" }, { unit: "GBP" });
    await publish({ data: 3 });
    await got(reader, "3");
    guard.dark();
    await publish({ data: 4 }, { unit: "SEK" });
    guard.light();
    await got(reader, "4");
    const wanted = [{ a: '"', unit: "EUR" }, { unit: "GBP" }, undefined, { unit: "SEK" }];
    assert.deepEqual(tags, wanted);
    const { messages } = await reader.busline.history({ limit: 9 });
    assert.deepEqual(messages.map((message) => message.tags), wanted);
    assert.deepEqual(reader.seen.faults, []);
    close(reader);
    await own.kill();
  },

  // The last one: it ends the server of the others.
  async "a client of a server that was killed is told that the history has begun anew"() {
    const { reader, writer, write } = await pair("news");
    for (const text of texts(0, 10)) await write(text);
    await got(reader, "9");
    const told = [reader, writer].map(({ busline }) => event(busline, "recovered"));
    await server.kill();
    await server.start();
    for (const { recovered, why, offset } of await Promise.all(told)) {
      assert.deepEqual([recovered, why, offset], [false, "epoch", 0]);
    }
    assert.equal((await write("anew")).offset, 1);
    await got(reader, "anew");
    assert.deepEqual(reader.seen.faults, []);
    close(reader, writer);
  },
};

await run(only ? { [only]: tests[only] } : tests);
