// The page of the dashboard example in a headless Chromium: a page that comes sees the newest state
// at once, though the next one is far away, and how many watch. Called with the address of the page
// and the path of Chromium; says `ok` on standard output.
import { assert, inBrowser, WAIT } from "./harness.mjs";

const [url, executablePath] = process.argv.slice(2);
const faults = [];

async function open(browser) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (line) => line.type() === "error" && faults.push(line.text()));
  await page.goto(url);
  await page.waitForFunction(
    () => /\d/.test(document.getElementById("orders").textContent),
    WAIT,
  );
  return page;
}

const figures = (page) =>
  page.$$eval("dd", (figures) => figures.map(({ textContent }) => textContent));

const watched = (page, text) =>
  page.waitForFunction(
    (wanted) => document.getElementById("watching").textContent === wanted,
    WAIT,
    text,
  );

await inBrowser(executablePath, async (browser) => {
  const ann = await open(browser);
  await watched(ann, "only you watch");
  const bob = await open(browser);
  assert.deepEqual(await figures(bob), await figures(ann));
  await watched(ann, "2 watch");
  await watched(bob, "2 watch");
  await bob.close();
  await watched(ann, "only you watch");
  assert.deepEqual(faults, []);
});
