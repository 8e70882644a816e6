// clients/js/busline.js in two pages of a headless Chromium, over connections that are cut and a
// network that goes away: each page has every message of both once. Called with the path of the
// server and that of Chromium; says `ok` on standard output.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Busline } from "./busline.js";
import { assert, event, inBrowser, Proxy, Server, WAIT, watched } from "./harness.mjs";

const [program, executablePath] = process.argv.slice(2);
const server = await new Server(program, `
origins = ["http://localhost:*"]
[room.news]
publish = "members"
history = { messages = 10000, bytes = "64MiB", ttl = "5m" }
`).start();
const proxy = await new Proxy().start(server.port);

const client = readFileSync(new URL("./busline.js", import.meta.url));
const PAGE = `<!doctype html><link rel="icon" href="data:,"><script type="module">
  import { Busline } from "/busline.js";
  window.join = (url) => new Promise((resolve) => {
    const options = { backoffMin: 10, backoffMax: 50, silence: 500, patience: 500 };
    const busline = new Busline(url, options);
    Object.assign(window, { busline, got: [], told: [], faults: [] });
    busline.addEventListener("message", ({ data, offset }) => got.push([offset, data]));
    busline.addEventListener("recovered", ({ recovered }) => told.push(recovered));
    busline.addEventListener("error", ({ error }) => faults.push(String(error)));
    // The reply to a request shows that the page is in the room.
    busline.addEventListener("open", () => busline.history({ limit: 0 }).then(resolve));
  });
  window.say = async (text) => {
    for (;;) {
      try {
        return await busline.publish(text);
      } catch (error) {
        // A text that may have been published is not published again.
        if (error.outcome !== "unsent") return null;
        const change = (wake) => busline.addEventListener("open", wake, { once: true });
        if (!busline.isOpen) await new Promise(change);
      }
    }
  };
</script>`;
const site = createServer(({ url }, response) => {
  const isClient = url === "/busline.js";
  response.setHeader("content-type", isClient ? "text/javascript" : "text/html");
  response.end(isClient ? client : PAGE);
});
site.listen(0, "localhost");
await once(site, "listening");

async function open(browser) {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  await page.waitForFunction(() => window.join, WAIT);
  await page.evaluate((url) => window.join(url), `ws://localhost:${proxy.port}/ws/news/1`);
  return page;
}

const say = (page, text) => page.evaluate((said) => window.say(said), text);
const has = (page, text) => {
  const isThere = (wanted) => window.got.some(([, data]) => data === wanted);
  return page.waitForFunction(isThere, WAIT, text);
};

await inBrowser(executablePath, async (browser) => {
  const pages = [await open(browser), await open(browser)];
  for (let number = 0; number < 60; number += 1) {
    await Promise.all(pages.map((page, index) => say(page, `${number} of ${index}`)));
    if (number % 10 === 7) proxy.cut();
  }
  const [ann] = pages;
  const writer = watched(Busline, `ws://localhost:${server.port}/ws/news/1`);
  await event(writer.busline, "open");
  await ann.setOfflineMode(true);
  proxy.stall();
  await writer.busline.publish("while nothing comes through");
  await ann.setOfflineMode(false);
  for (const page of pages) await has(page, "while nothing comes through");
  await say(ann, "last");
  for (const page of pages) await has(page, "last");
  const seen = await Promise.all(pages.map((page) =>
    page.evaluate(() => ({ got: window.got, told: window.told, faults: window.faults }))));
  for (const { got, told, faults } of seen) {
    assert.deepEqual(faults, []);
    assert.ok(told.length > 2 && told.every((recovered) => recovered), `${told}`);
    const offsets = got.map(([offset]) => offset);
    assert.deepEqual(offsets, offsets.map((_, index) => offsets[0] + index));
    assert.equal(new Set(got.map(([, data]) => data)).size, got.length);
  }
  const [first, second] = seen.map(({ got }) => got);
  assert.deepEqual(first, second);
});
