// Server-sent events in a page of a headless Chromium, of another origin than the server: its
// EventSource loses its connection twice, and its server once in a planned restart, and misses
// nothing. After a crash of the server it is told. Called with the path of the server and that of
// Chromium; says `ok` on standard output.
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { assert, inBrowser, Proxy, Server, WAIT } from "./harness.mjs";

const [program, executablePath] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "busline-events-"));
const server = await new Server(program, `
origins = ["http://localhost:*"]
history_file = ${JSON.stringify(join(folder, "histories"))}
[room.news]
publish = "members"
history = { messages = 10000, bytes = "64MiB", ttl = "5m" }
`).start();
const proxy = await new Proxy().start(server.port);

const PAGE = `<!doctype html><link rel="icon" href="data:,"><script>
  window.open_ = (url) => new Promise((resolve) => {
    const source = new EventSource(url);
    Object.assign(window, { source, got: [], told: [] });
    source.onmessage = ({ data }) => got.push(data);
    source.addEventListener("recovered", ({ data }) => told.push(JSON.parse(data)));
    source.addEventListener("position", resolve, { once: true });
  });
</script>`;
const site = createServer((_, response) => {
  response.setHeader("content-type", "text/html");
  response.end(PAGE);
});
site.listen(0, "localhost");
await once(site, "listening");

/** Publishes a text, and waits until it is published. */
async function say(text) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws/news/1`);
  await once(socket, "open");
  const echo = once(socket, "message");
  socket.send(text);
  await echo;
  socket.terminate();
}

await inBrowser(executablePath, async (browser) => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const url = `http://localhost:${proxy.port}/sse/news/1`;
  await page.evaluate((address) => window.open_(address).then(() => null), url);
  const has = (text) =>
    page.waitForFunction((wanted) => window.got.includes(wanted), WAIT, text);
  const expected = [];
  for (let number = 0; number < 30; number += 1) {
    expected.push(`${number}`);
    await say(`${number}`);
    if (number % 10 === 7) await has(`${number}`);
    if (number === 12 || number === 22) proxy.cut();
  }
  await has("29");
  await server.stop();
  await server.start();
  for (const text of ["a", "b"]) {
    expected.push(text);
    await say(text);
  }
  await has("b");
  const before = await page.evaluate(() => ({ got: window.got, told: window.told }));
  assert.deepEqual(before.got, expected);
  assert.ok(before.told.length >= 2, JSON.stringify(before.told));
  assert.ok(before.told.every(({ recovered }) => recovered), JSON.stringify(before.told));
  await server.kill();
  await server.start();
  const isTold = () => window.told.some(({ recovered }) => !recovered);
  await page.waitForFunction(isTold, WAIT);
  await say("after a crash");
  await has("after a crash");
  const { why } = await page.evaluate(() => window.told.at(-1));
  assert.equal(why, "epoch");
});
