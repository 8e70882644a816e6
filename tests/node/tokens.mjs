// The page of the tokens example in a headless Chromium: an answer arrives word by word, a reload in
// the middle goes on where it was, and a page that comes after the end has the whole answer, as a
// client of clients/js has. Called with the address of the page and the path of Chromium; says `ok` on standard output.
import WebSocket from "ws";
import { Busline } from "./busline.js";
import { assert, event, inBrowser, QUICK, WAIT } from "./harness.mjs";

const [url, executablePath] = process.argv.slice(2);
const faults = [];

const words = (page) => page.$eval("#answer", ({ textContent }) => textContent.split(" ").length);
const more = (page, count) =>
  page.waitForFunction(
    (wanted) => document.getElementById("answer").textContent.split(" ").length > wanted,
    WAIT,
    count,
  );
const ended = (page) =>
  page.waitForFunction(() => / words$/.test(document.getElementById("state").textContent), WAIT);

await inBrowser(executablePath, async (browser) => {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
  await page.goto(url);
  await page.type("#question", "How fast is a word?");
  await page.keyboard.press("Enter");
  await more(page, 5);
  await page.reload();
  await more(page, 5);
  const before = await words(page);
  await page.reload();
  await more(page, before);
  await ended(page);
  const answer = await page.$eval("#answer", ({ textContent }) => textContent);
  assert.match(answer, /^You asked: How fast is a word\? That is .* the number of its words\.$/);
  const state = await page.$eval("#state", ({ textContent }) => textContent);
  assert.equal(state, `${answer.split(" ").length} words`);

  // The end stops the page: it does not come back for more.
  const late = await browser.newPage();
  await late.goto(page.url());
  await ended(late);
  assert.equal(await late.$eval("#answer", ({ textContent }) => textContent), answer);
  assert.deepEqual(faults, []);

  const room = new URL(`/live/ws/answer/${new URL(page.url()).hash.slice(1)}`, url);
  const reader = follow(`${room}?since=start`);
  assert.deepEqual(await reader.end, { words: answer.split(" ").length, reason: "stop" });
  assert.equal(reader.got.join(""), answer);
  // A client that has the end already is told again, and does not come back either.
  const again = follow(room, { since: reader.busline.position });
  await again.end;
  assert.deepEqual(again.got, []);
});

/** A client that is closed for good after the end of the room's stream. */
function follow(address, options) {
  const busline = new Busline(address, { ...QUICK, WebSocket, ...options });
  const got = [];
  busline.addEventListener("message", ({ data }) => got.push(data));
  busline.addEventListener("reconnecting", () => faults.push("it comes back"));
  const closed = event(busline, "close");
  const end = event(busline, "end").then(async ({ data }) => {
    assert.equal((await closed).code, 1000);
    assert.deepEqual(faults, []);
    return data;
  });
  return { busline, got, end };
}
