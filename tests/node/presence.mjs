// The list of clients that clients/js/README.md shows, against a real server: it has each client that
// is in the room, over joins, leaves, losses of the connection and a reload. Called with the path of
// the server; says `ok` on standard output.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import WebSocket from "ws";
import { Busline } from "./busline.js";
import { assert, event, Proxy, QUICK, run, Server } from "./harness.mjs";

const program = process.argv[2];
const server = await new Server(program, `
[limits]
presence_max = 2
[room.news]
publish = "members"
presence = "list"
join_leave = "asked"
[room.reload]
presence = "list"
join_leave = "all"
leave_delay = "1h"
`).start();
const proxy = await new Proxy().start(server.port);

const readme = readFileSync(new URL("README.md", import.meta.url), "utf8").split("## Who is there")[1];
const [, code] = /```js\n([^]*?)```/.exec(readme);

/** The documented list, on a room of this kind, through the proxy. */
function listed(kind) {
  class Here extends Busline {
    constructor(path, options) {
      assert.equal(path, "/ws/news/today");
      super(`ws://127.0.0.1:${proxy.port}/ws/${kind}/today`, { ...QUICK, ...options });
    }
  }
  return new Function("Busline", `${code}\nreturn { busline, there };`)(Here);
}

/** Waits until the page has so many clients: each change is an event, or the answer to a list. */
async function until({ busline, there }, size) {
  while (there.size !== size) {
    const change = ["joined", "left"].map((type) => event(busline, type));
    await Promise.race([...change, new Promise((resolve) => setImmediate(resolve))]);
  }
}

async function join(kind) {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/ws/${kind}/today`);
  await once(socket, "open");
  return socket;
}

await run({
  "a page has each client that joins and none that has left, also after a loss": async () => {
    const page = listed("news");
    await until(page, 1);
    const sockets = [];
    for (let count = 2; count <= 6; count += 1) {
      sockets.push(await join("news"));
      await until(page, count);
    }
    sockets.pop().terminate();
    sockets.pop().close();
    await until(page, 4);
    proxy.dark();
    await event(page.busline, "reconnecting");
    sockets.push(await join("news"));
    sockets.shift().terminate();
    proxy.light();
    await event(page.busline, "open");
    // More than one answer lists.
    await until(page, 4);
    const { clients, num_clients, more } = await page.busline.presence();
    assert.deepEqual([Object.keys(clients).length, num_clients, more], [2, 4, true]);
    assert.deepEqual(await page.busline.presence({ limit: 0 }), { num_clients: 4, num_subjects: 0 });
    page.busline.close();
    for (const socket of sockets) socket.terminate();
  },

  "a room that keeps no presence says so": async () => {
    const busline = new Busline(`ws://127.0.0.1:${server.port}/ws/ping`, QUICK);
    await event(busline, "open");
    await assert.rejects(busline.presence(), { outcome: "refused", code: 108 });
    busline.close();
  },

  "a leave that is held back is in no answer": async () => {
    const page = listed("reload");
    await until(page, 1);
    const socket = await join("reload");
    await until(page, 2);
    socket.terminate();
    for (let left = 2; left > 1; ) left = (await page.busline.presence()).num_clients;
    assert.equal(page.there.size, 2, "the leave is not told yet");
    page.busline.close();
  },
});
