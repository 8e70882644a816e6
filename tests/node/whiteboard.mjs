// Two pages of the whiteboard in a headless Chromium: each sees what the other draws, who is there
// and who leaves, and a page that comes later sees the board. Called with the address of the page
// and the path of Chromium.
import { assert, inBrowser, WAIT } from "./harness.mjs";

const [url, executablePath] = process.argv.slice(2);

const faults = [];

async function open(browser, name) {
  const page = await browser.newPage();
  page.on("pageerror", (error) => faults.push(`${name}: ${error}`));
  page.on("console", (line) => line.type() === "error" && faults.push(`${name}: ${line.text()}`));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll("#people li").length > 0, WAIT);
  await page.type("#name", name);
  await page.keyboard.press("Enter");
  return page;
}

const people = (page) =>
  page.$$eval("#people li", (items) => items.map((item) => item.textContent).sort());

async function sees(page, names) {
  await page.waitForFunction(
    (wanted) => {
      const items = [...document.querySelectorAll("#people li")];
      return JSON.stringify(items.map((item) => item.textContent).sort()) === wanted;
    },
    WAIT,
    JSON.stringify([...names].sort()),
  );
  assert.deepEqual(await people(page), [...names].sort());
}

async function draw(page, from, to) {
  await page.mouse.move(...from);
  await page.mouse.down();
  await page.mouse.move(...to, { steps: 5 });
  await page.mouse.up();
}

const strokes = (page, count) =>
  page.waitForFunction((wanted) => window.strokes.length === wanted, WAIT, count);

// The number of pixels of the canvas that something was drawn on.
const inked = (page) =>
  page.$eval("#board", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 3; at < data.length; at += 4) count += data[at] > 0;
    return count;
  });

await inBrowser(executablePath, async (browser) => {
  const ann = await open(browser, "Ann");
  await sees(ann, ["Ann"]);
  const bob = await open(browser, "Bob");
  await sees(ann, ["Ann", "Bob"]);
  await sees(bob, ["Ann", "Bob"]);

  assert.equal(await inked(bob), 0);
  await ann.bringToFront();
  await draw(ann, [100, 200], [300, 400]);
  await strokes(bob, 1);
  assert.ok((await inked(bob)) > 500, "Bob sees Ann's stroke");
  await bob.bringToFront();
  await draw(bob, [300, 200], [100, 400]);
  await strokes(ann, 2);

  const cat = await open(browser, "Cat");
  await strokes(cat, 2);
  assert.ok((await inked(cat)) > 1000, "Cat sees the board");
  await sees(ann, ["Ann", "Bob", "Cat"]);

  await bob.close();
  await sees(ann, ["Ann", "Cat"]);
  await cat.bringToFront();
  await cat.click("#clear");
  await strokes(ann, 0);
  assert.equal(await inked(ann), 0);
  assert.deepEqual(faults, []);
});
