// A client of busline for browsers and for Node: one file, no dependency, no build step.
// `docs/subprotocol.md` of busline has the protocol, `README.md` beside this file the examples.

/** @typedef {{epoch: string, offset: number}} Position A place in the history of a room. */

/**
 * @typedef {object} Options Times are in ms.
 * @property {() => string | Promise<string>} [token] Returns a token; asked before each connect,
 *   and before the token of an open connection runs out.
 * @property {Position} [since] The position after which to go on, from an earlier visit.
 * @property {boolean} [joinLeave] Asks to be told of joins and leaves, where the room says `asked`.
 * @property {typeof WebSocket} [WebSocket] The class to use where there is no global one.
 * @property {number} [backoffMin] Bounds the first wait for a reconnect, a random part of it: 500.
 * @property {number} [backoffMax] The bound that those of later waits double up to: 30,000.
 * @property {number} [connectTimeout] The longest time that a connect may take: 10,000.
 * @property {number} [silence] The silence before a sign of life is asked for: 30,000; 0 for never.
 * @property {number} [patience] The time that the server has for that sign: 10,000.
 */

// The close codes after which the same request fails again; after 3500 to 3999 and 4500 to 4999, by
// which a backend closes a client, no request follows either.
const [UNAUTHORIZED, FINAL] = [4401, [4400, 4401, 4403, 4404]];
const WAITS = { backoffMin: 500, backoffMax: 30_000, connectTimeout: 10_000 };
const DEFAULTS = { ...WAITS, silence: 30_000, patience: 10_000 };

/** A request that failed. */
export class BuslineError extends Error {
  /**
   * @param {string} message
   * @param {"refused" | "unsent" | "unknown"} outcome `unknown`: the connection was lost before the
   *   reply, so that the message may be published or not.
   * @param {number} [code] The code of a refusal: 100 to 112, or the service's own.
   */
  constructor(message, outcome, code) {
    super(message);
    Object.assign(this, { name: "BuslineError", outcome, code });
  }
}

/**
 * A connection to a service or room that comes back after each loss, and goes on where it was.
 *
 * Its events, each with the named members:
 * - `open`: the connection stands. A server that refuses the client does so after it.
 * - `message` {data, offset, from, tags, recovered}: a text, or an `ArrayBuffer`. `recovered` is
 *   true for a message that was published before this connection. `tags`: texts by name.
 * - `recovered` {recovered, why, epoch, offset}: a reconnect brings all missed messages, or none.
 * - `lagged` {messages}: so many messages are missing here.
 * - `joined`, `left` {clients, num_clients, num_subjects}: clients by number, each {subject, info}. With `replaces`,
 *   the client with that number has left. `missed` {notices}: so many of these events are missing.
 * - `end` {data, offset}: the stream of the room has ended; `close` with 1000 follows, and no reconnect.
 * - `restarted` {generation}: the service runs anew. `renewed`: a fresh token was accepted.
 * - `refused` {code, reason, retry}: the client may not join.
 * - `reconnecting` {attempt, delay, code, reason}: the connection is lost, the next follows in ms.
 * - `error` {error}: the token could not be had, or messages are missing without a notice.
 * - `close` {code, reason}: the end; nothing follows.
 */
export class Busline extends EventTarget {
  #options;
  #url;
  #socket = null;
  /** The state of the present connection; a new object for each. */
  #link = null;
  /** @type {Position | null} The newest position that the client has everything up to. */
  #position = null;
  #requests = new Map();
  #lastId = 0;
  #attempt = 0;
  /** Whether a token was refused since the last connection that stood. */
  #wasDenied = false;
  #isClosed = false;
  #timers = {};
  #notBefore = 0;

  /**
   * Connects at once.
   *
   * @param {string | URL} url The address of a service or room, such as `/ws/news/today`.
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#options = { WebSocket: globalThis.WebSocket, ...DEFAULTS, ...options };
    if (!this.#options.WebSocket) throw new TypeError("no global WebSocket here: pass one");
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.#position = options.since ? { ...options.since } : null;
    this.#watchPage(true);
    // Listeners that are added right after this call see every event.
    queueMicrotask(() => this.#connect());
  }

  /** The position that the client has everything up to; `null` where the room tells none. */
  get position() {
    return this.#position?.epoch ? { ...this.#position } : null;
  }

  /** Whether the connection stands. */
  get isOpen() {
    return Boolean(this.#link?.isOpen);
  }

  /**
   * Publishes a text, or bytes.
   *
   * @param {string | ArrayBuffer | ArrayBufferView | Blob} data
   * @param {{live?: boolean}} [options] `live`, in a relay alone: no offset, and no recovery.
   * @returns {Promise<Position | undefined>} The position of the message; `undefined` without a
   *   history, and for bytes. Rejects with a `BuslineError`, or a `TypeError` for other data.
   */
  async publish(data, { live = false } = {}) {
    if (typeof data === "string") {
      // The server takes no half of a surrogate pair.
      const text = data.replace(/\p{Surrogate}/gu, "\ufffd");
      const { published } = await this.#request(live ? { text, live } : { text });
      return published.epoch ? published : undefined;
    }
    const type = Object.prototype.toString.call(data);
    const isBytes = ArrayBuffer.isView(data) || / (ArrayBuffer|Blob|File)\]/.test(type);
    if (!isBytes) throw new TypeError("a message is a string, a buffer or a Blob");
    if (live) throw new TypeError("only a text can be live");
    if (!this.isOpen) throw new BuslineError("not connected", "unsent");
    this.#socket.send(data);
  }

  /**
   * Reads from the history of the room.
   *
   * @param {{since?: Position, limit?: number, reverse?: boolean}} [reading] The messages after
   *   `since`, or before it with `reverse`, where the newest comes first.
   * @returns {Promise<{messages: {data: string | ArrayBuffer, offset: number, from?: object,
   *   tags?: Record<string, string>}[], epoch: string, offset: number}>} Also the present position. The end of a stream has `end` in
   *   the place of `data`. Rejects with a `BuslineError`.
   */
  async history({ since, limit, reverse } = {}) {
    const after = since && `${since.epoch}:${since.offset}`;
    const { history } = await this.#request({ history: { since: after, limit, reverse } });
    const messages = history.messages.map(({ text, base64, ...about }) => {
      if ("end" in about) return about;
      const data = text ?? Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).buffer;
      return { data, ...about };
    });
    return { ...history, messages };
  }

  /**
   * Asks who is in the room.
   *
   * @param {{after?: string, limit?: number}} [page] The clients that follow this one.
   * @returns {Promise<{clients?: object, num_clients: number, num_subjects: number,
   *   more?: boolean}>} Clients by number, each {subject, info}. Rejects with a `BuslineError`.
   */
  async presence({ after, limit } = {}) {
    return (await this.#request({ presence: { after, limit } })).presence;
  }

  /**
   * Asks the service of the room.
   *
   * @param {string} method
   * @param {any} [data] Anything that JSON can say.
   * @returns {Promise<any>} The answer of the service. Rejects with a `BuslineError`, whose `code` is
   *   the service's own where it has refused the request.
   */
  async request(method, data = null) {
    return (await this.#request({ request: { method, data } })).answer.data;
  }

  /** Closes the connection for good. */
  close(code = 1000, reason = "") {
    if (this.#isClosed) return;
    // A close frame has room for 123 bytes; `stream` leaves out a character that was cut.
    const bytes = new TextEncoder().encode(reason).subarray(0, 123);
    this.#drop(code, new TextDecoder().decode(bytes, { stream: true }));
    this.#end(code, reason);
  }

  async #connect() {
    if (this.#isClosed) return;
    clearTimeout(this.#timers.retry);
    const link = { frames: 0, next: null, floor: 0, upTo: Infinity, lagged: 0 };
    this.#link = link;
    const late = () => this.#lose(link, 1006, "the connect took too long");
    this.#timers.connect = setTimeout(late, this.#options.connectTimeout);
    try {
      const token = await this.#options.token?.();
      if (this.#link !== link) return;
      this.#renewBefore(link, token);
      this.#dial(link, ["busline.v1.json", ...(token ? [`bearer.${token}`] : [])]);
    } catch (error) {
      if (this.#link !== link) return;
      this.#emit("error", { error });
      this.#lose(link, 1006, "there is no token, or no valid one");
    }
  }

  #dial(link, names) {
    const url = new URL(this.#url);
    if (this.#options.joinLeave) url.searchParams.set("join_leave", "true");
    link.since = this.#position;
    if (this.position) {
      url.searchParams.delete("history");
      url.searchParams.set("since", `${this.#position.epoch}:${this.#position.offset}`);
    }
    const socket = new this.#options.WebSocket(url.href, names);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      clearTimeout(this.#timers.connect);
      link.isOpen = true;
      link.openedAt = performance.now();
      this.#watchSilence(link);
      this.#emit("open");
    };
    socket.onmessage = ({ data }) => {
      link.frames += 1;
      if (typeof data === "string") return this.#read(link, JSON.parse(data));
      const about = link.binary ?? {};
      link.binary = null;
      this.#deliver(link, data, about);
    };
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => this.#lose(link, code, reason);
  }

  /** Leaves the present connection, whatever becomes of it. */
  #drop(code, reason) {
    const socket = this.#socket;
    [this.#socket, this.#link] = [null, null];
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      // A page may close with 1000 and 3000 to 4999 alone.
      const isOwn = Number.isInteger(code) && code >= 3000 && code < 5000;
      socket.close(code === 1000 || isOwn ? code : 4000, reason);
    }
    const error = new BuslineError("the connection was lost before the reply", "unknown");
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
  }

  /** Ends the connection, and decides whether another one follows. */
  #lose(link, code, reason) {
    if (this.#link !== link) return;
    const { refused } = link;
    this.#drop(code, reason);
    const stood = link.frames > 0 || performance.now() - (link.openedAt ?? Infinity) > 5_000;
    if (stood && !refused) [this.#attempt, this.#wasDenied] = [0, false];
    if (link.hasEnded) return this.#end(1000, reason);
    const isFinal = FINAL.includes(code) || (code >= 3500 && code % 1000 >= 500);
    if (refused ? refused.retry === undefined : isFinal) {
      const end = refused ?? { code, reason };
      const isNew = end.code === UNAUTHORIZED && this.#options.token && !this.#wasDenied;
      if (!isNew) return this.#end(end.code, end.reason);
      this.#wasDenied = true;
    }
    const { backoffMin, backoffMax } = this.#options;
    const bound = Math.min(backoffMax, backoffMin * 2 ** this.#attempt++);
    const retry = refused?.retry ?? 0;
    const delay = retry + Math.random() * bound;
    this.#notBefore = performance.now() + retry;
    this.#timers.retry = setTimeout(() => this.#connect(), delay);
    this.#emit("reconnecting", { attempt: this.#attempt, delay, code, reason });
  }

  #end(code, reason) {
    this.#isClosed = true;
    this.#watchPage(false);
    this.#emit("close", { code, reason });
  }

  #read(link, frame) {
    if ("text" in frame) this.#deliver(link, frame.text, frame);
    else if ("binary" in frame) link.binary = frame.binary;
    else if ("end" in frame) this.#finish(link, frame);
    else if ("recovered" in frame) this.#recover(link, frame);
    else if ("position" in frame) this.#stand(link, frame.position);
    else if ("id" in frame) this.#reply(frame);
    else if ("lagged" in frame) {
      link.lagged += frame.lagged;
      this.#emit("lagged", { messages: frame.lagged });
    } else if ("joined" in frame) this.#change("joined", frame);
    else if ("left" in frame) this.#change("left", frame);
    else if ("presence" in frame) this.#emit("missed", { notices: frame.presence.lagged });
    else if ("service" in frame) this.#emit("restarted", { generation: frame.generation });
    else if ("token" in frame) this.#renewed(link, frame.token);
    else if ("refused" in frame) {
      link.refused = frame.refused;
      this.#emit("refused", frame.refused);
    }
    // Frames of other kinds are of a newer server, and are ignored as the protocol asks.
  }

  /** Hands a message over, if it is the next one; an offset is handed over once at most. */
  #deliver(link, data, { offset, from, tags }) {
    if (!this.#isNext(link, offset)) return;
    this.#emit("message", { data, offset, from, tags, recovered: offset <= link.joinedAt });
  }

  /** Hands the end over, which a client is told that comes back after it, too. */
  #finish(link, { end, offset }) {
    const isNext = this.#isNext(link, offset);
    if (this.#link !== link) return;
    link.hasEnded = true;
    if (isNext || offset <= this.#position?.offset) this.#emit("end", { data: end, offset });
  }

  /** Whether a message is the next one; goes on from it then. */
  #isNext(link, offset) {
    if (offset !== undefined) {
      if (link.joinedAt === undefined) {
        // The room tells no position: a reconnect may have missed anything.
        [link.joinedAt, this.#position] = [0, null];
        if (link.since) this.#emit("recovered", { recovered: false, why: "off" });
      }
      const first = link.next ?? Math.min(offset, link.upTo + 1);
      if (offset < first || offset <= link.floor) return false;
      // Live messages have no offsets, but count as lost: a gap may be shorter than was told.
      if (offset > first + link.lagged) {
        this.#lose(link, 4000, "messages are missing");
        const error = new Error(`the message ${first} is missing: ${offset} came`);
        this.#emit("error", { error });
        return false;
      }
      this.#moveTo(link, { epoch: this.#position?.epoch ?? link.epoch, offset });
    }
    return true;
  }

  #moveTo(link, position) {
    this.#position = position;
    link.next = position.offset + 1;
    link.lagged = 0;
  }

  /** Takes the answer to `since`. The missed messages are still to come, so none counts yet. */
  #recover(link, { recovered, why, epoch, offset }) {
    link.joinedAt = offset;
    // A wish of the address alone: the client stands nowhere until its first message has come.
    if (recovered && !link.since) [link.epoch, link.upTo] = [epoch, offset];
    else this.#moveTo(link, { epoch, offset: recovered ? link.since.offset : offset });
    this.#emit("recovered", { recovered, why, epoch, offset });
  }

  /** Takes a position: the first one of a connection that did not recover, or a later one. */
  #stand(link, position) {
    if (link.joinedAt !== undefined) {
      // The position rises over messages that this client is not sent, such as its own.
      return void (position.offset >= link.next && this.#moveTo(link, position));
    }
    const { since } = link;
    const isSame = since?.epoch === position.epoch;
    // Older messages may follow, up to this position: a wish of the address, or the newest one.
    link.joinedAt = link.upTo = position.offset;
    link.floor = isSame ? since.offset : 0;
    this.#position = position;
    if (since && !(isSame && since.offset === position.offset)) {
      this.#emit("recovered", { recovered: false, why: "off", ...position });
    }
  }

  /** Hands over who has joined or left; a notice of many has the numbers of all. */
  #change(type, { [type]: clients, num_clients, num_subjects }) {
    this.#emit(type, { clients, num_clients, num_subjects });
  }

  #request(members) {
    if (!this.isOpen) return Promise.reject(new BuslineError("not connected", "unsent"));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#requests.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...members, id }));
    });
  }

  #reply({ id, error, ...reply }) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    if (error) request?.reject(new BuslineError(error.message, "refused", error.code));
    else request?.resolve(reply);
  }

  /** Sets the time for a fresh token: 30 s before the end, or at half of a short life. */
  #renewBefore(link, token) {
    const left = (expiry(token) - Date.now() / 1000) * 1000;
    if (left > 0) this.#renewAfter(link, Math.max(left - 30_000, left * 0.5));
  }

  #renewAfter(link, delay) {
    clearTimeout(this.#timers.renew);
    const renew = async () => {
      try {
        const token = await this.#options.token();
        if (this.#link !== link) return;
        link.token = token;
        if (link.isOpen) this.#socket.send(JSON.stringify({ token }));
      } catch (error) {
        if (this.#link !== link) return;
        this.#emit("error", { error });
        this.#renewAfter(link, this.#options.backoffMin);
      }
    };
    // A timer takes no longer time than this.
    this.#timers.renew = setTimeout(renew, Math.min(delay, 2 ** 31 - 1));
  }

  #renewed(link, answer) {
    if (answer !== "accepted") return this.#renewAfter(link, this.#options.backoffMin);
    this.#renewBefore(link, link.token);
    this.#emit("renewed");
  }

  /** Asks for a sign of life after a silence: pings of the server are not shown to a page. */
  #watchSilence(link) {
    if (this.#options.silence === 0) return;
    const { frames } = link;
    const ask = () => (link.frames > frames ? this.#watchSilence(link) : this.#probe(link));
    clearTimeout(this.#timers.silence);
    this.#timers.silence = setTimeout(ask, this.#options.silence);
  }

  /** Sends a request, to which each server replies, if only with an error. */
  #probe(link) {
    if (!link.isOpen) return;
    const { frames } = link;
    const again = () => this.#link === link && this.#watchSilence(link);
    const judge = () => link.frames > frames || this.#lose(link, 4000, "the server is silent");
    clearTimeout(this.#timers.silence);
    this.#timers.silence = setTimeout(() => judge() && again(), this.#options.patience);
    this.#request({ history: { limit: 0 } }).then(again, again);
  }

  /** In a page: a network that comes back, and a page that is looked at again, end a wait. */
  #watchPage(isWatched) {
    const change = isWatched ? "addEventListener" : "removeEventListener";
    for (const type of ["online", "offline"]) globalThis[change]?.(type, this.#look);
    globalThis.document?.[change]("visibilitychange", this.#look);
  }

  #look = () => {
    if (this.#link) this.#probe(this.#link);
    else if (!this.#isClosed && performance.now() >= this.#notBefore) this.#connect();
  };

  #emit(type, members) {
    this.dispatchEvent(Object.assign(new Event(type), members));
  }
}

/** The second at which a JSON Web Token runs out; `NaN` if it does not say. */
function expiry(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return Number(JSON.parse(atob(claims)).exp ?? NaN);
  } catch {
    return NaN;
  }
}
