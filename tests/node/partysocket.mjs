// npm `partysocket` against a room, unchanged: it talks, and comes back after a restart of the
// server. Called with the server's port; says `ready` on standard output once it has talked, and
// `back` once it has talked to the server that was started again.
import { PartySocket } from "partysocket";
import WebSocket from "ws";

const socket = new PartySocket({
  host: `localhost:${process.argv[2]}`,
  basePath: "ws/chat/42",
  WebSocket,
  minReconnectionDelay: 50,
  maxReconnectionDelay: 200,
});

let opened = 0;
socket.addEventListener("open", () => {
  opened += 1;
  socket.send(`hello ${opened}`);
});
socket.addEventListener("message", ({ data }) => {
  if (data === `hello ${opened}`) {
    console.log(opened === 1 ? "ready" : "back");
    if (opened > 1) {
      socket.close();
      process.exit(0);
    }
  }
});
