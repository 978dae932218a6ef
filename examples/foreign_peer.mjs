// A peer that was written from docs/protocol.md alone, with nothing but Node, and its adapter for the
// conformance kit (docs/conformance.md):
//
//   peer conformance peer --command "node examples/foreign_peer.mjs"
//
// It is small and no library: the raw carrier, all modes in both roles, resume under cuts, the first
// revision of the session's frames. What it leaves out (WebSocket, parts, choosing among addresses, lists
// of who may ask) the kit says is not tried.

import crypto from "node:crypto";
import net from "node:net";
import readline from "node:readline";
import tls from "node:tls";

// -- MessagePack, as §4 allows it ---------------------------------------------------------------------

class Float { constructor(value) { this.value = value; } }  // 1.0 is another value on the wire than 1
class Violation extends Error { constructor(reason, code = "bad_message") { super(reason); this.code = code; } }

function pack(value) {
  if (value === null || value === undefined) return Buffer.from([0xc0]);
  if (value === true || value === false) return Buffer.from([value ? 0xc3 : 0xc2]);
  if (value instanceof Uint8Array) return sized(value.length, Buffer.from(value), [[0x100, 0xc4, 1], [0x10000, 0xc5, 2], [2 ** 32, 0xc6, 4]]);
  if (typeof value === "string") {
    const text = Buffer.from(value);
    if (text.length < 32) return Buffer.concat([Buffer.from([0xa0 | text.length]), text]);
    return sized(text.length, text, [[0x100, 0xd9, 1], [0x10000, 0xda, 2], [2 ** 32, 0xdb, 4]]);
  }
  if (typeof value === "number") {
    if (!Number.isInteger(value)) { const out = Buffer.alloc(9); out[0] = 0xcb; out.writeDoubleBE(value, 1); return out; }
    if (value >= 0 && value < 128) return Buffer.from([value]);
    const out = Buffer.alloc(9);
    out[0] = value < 0 ? 0xd3 : 0xcf;
    if (value < 0) out.writeBigInt64BE(BigInt(value), 1); else out.writeBigUInt64BE(BigInt(value), 1);
    return out;
  }
  const items = Array.isArray(value) ? value : Object.entries(value).filter(([, one]) => one !== undefined).flat();
  const count = Array.isArray(value) ? items.length : items.length / 2;
  return sized(count, Buffer.concat(items.map(pack)), Array.isArray(value) ? [[0x10000, 0xdc, 2], [2 ** 32, 0xdd, 4]] : [[0x10000, 0xde, 2], [2 ** 32, 0xdf, 4]]);
}

function sized(count, body, kinds) {
  const [, kind, width] = kinds.find(([below]) => count < below);
  const head = Buffer.alloc(1 + width);
  head[0] = kind;
  head.writeUIntBE(count, 1, width);
  return Buffer.concat([head, body]);
}

const INCOMPLETE = Symbol("incomplete");

class Unpacker {  // values out of a stream, each of at most `most` bytes
  constructor(most, mostBin) { this.most = most; this.mostBin = mostBin; this.data = Buffer.alloc(0); }
  feed(piece) { this.data = this.data.length ? Buffer.concat([this.data, piece]) : piece; }
  next() {
    this.at = 0;
    let value;
    try { value = this.read(0); } catch (error) { if (error !== INCOMPLETE) throw error; value = INCOMPLETE; }
    const size = value === INCOMPLETE ? this.data.length : this.at;
    if (size > this.most) throw new Violation(`more than ${this.most} bytes`, "message_too_large");
    if (value !== INCOMPLETE) this.data = this.data.subarray(this.at);
    return value;
  }
  take(count) {
    if (this.at + count > this.data.length) throw INCOMPLETE;
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }
  uint(width) { const raw = this.take(width); return width === 8 ? Number(raw.readBigUInt64BE()) : raw.readUIntBE(0, width); }
  read(depth) {
    if (depth > 1024) throw new Violation("nested too deep");
    const kind = this.take(1)[0];
    if (kind < 0x80) return kind;
    if (kind >= 0xe0) return kind - 0x100;
    if (kind < 0x90) return this.map(kind & 15, depth);
    if (kind < 0xa0) return this.array(kind & 15, depth);
    if (kind < 0xc0) return this.text(kind & 31);
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.bin(this.uint(1 << (kind - 0xc4)));
      case 0xca: return new Float(this.take(4).readFloatBE());
      case 0xcb: return new Float(this.take(8).readDoubleBE());
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.uint(1 << (kind - 0xcc));
      case 0xd0: return this.take(1).readInt8();
      case 0xd1: return this.take(2).readInt16BE();
      case 0xd2: return this.take(4).readInt32BE();
      case 0xd3: return Number(this.take(8).readBigInt64BE());
      case 0xd9: case 0xda: case 0xdb: return this.text(this.uint(1 << (kind - 0xd9)));
      case 0xdc: case 0xdd: return this.array(this.uint(2 << (kind - 0xdc)), depth);
      case 0xde: case 0xdf: return this.map(this.uint(2 << (kind - 0xde)), depth);
    }
    throw new Violation(`no value begins with ${kind}`);
  }
  bin(size) {
    if (size > this.mostBin) throw new Violation("too many bytes", "message_too_large");
    return Buffer.from(this.take(size));
  }
  text(size) {
    if (size > 4096) throw new Violation("a long text");
    try { return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.take(size)); } catch (error) {
      throw error === INCOMPLETE ? error : new Violation("no UTF-8");
    }
  }
  array(count, depth) {
    if (count > 1024) throw new Violation("a long array");
    return Array.from({ length: count }, () => this.read(depth + 1));
  }
  map(count, depth) {
    if (count > 64) throw new Violation("a large map");
    const map = {};
    for (let one = 0; one < count; one++) {
      const key = this.read(depth + 1);
      if (typeof key !== "string") throw new Violation("a key that is no text");
      map[key] = this.read(depth + 1);
    }
    return map;
  }
}

const isInt = (value, low = 0, high = Number.MAX_SAFE_INTEGER) => Number.isInteger(value) && value >= low && value <= high;
const isBin = (value, size) => value instanceof Uint8Array && (size === undefined || value.length === size);
const number = (value) => (value instanceof Float ? value.value : value);
const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// -- identity (§2) ------------------------------------------------------------------------------------

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
function guidOf(key) {
  let bits = 0n;
  for (const byte of key) bits = (bits << 8n) | BigInt(byte);
  bits <<= 4n;
  return Array.from({ length: 52 }, (_, place) => ALPHABET[Number((bits >> BigInt(5 * (51 - place))) & 31n)]).join("");
}
function keyOf(guid) {
  if (!/^[a-z2-7]{51}[aq]$/.test(guid)) throw new Violation("no GUID");
  let bits = 0n;
  for (const letter of guid) bits = (bits << 5n) | BigInt(ALPHABET.indexOf(letter));
  return Buffer.from((bits >> 4n).toString(16).padStart(64, "0"), "hex");
}
const SPKI = Buffer.from("302a300506032b6570032100", "hex");
function verified(guid, signature, context, ...parts) {
  const key = crypto.createPublicKey({ key: Buffer.concat([SPKI, keyOf(guid)]), format: "der", type: "spki" });
  return crypto.verify(null, Buffer.concat([Buffer.from(`roam-relay/1 ${context}\0`), ...parts]), key, signature);
}

function der(tag, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const size = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

class Identity {
  constructor(seed) {
    this.private = crypto.createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]), format: "der", type: "pkcs8" });
    this.spki = crypto.createPublicKey(this.private).export({ format: "der", type: "spki" });
    this.key = this.spki.subarray(-32);
    this.guid = guidOf(this.key);
    const algorithm = der(0x30, der(0x06, [0x2b, 0x65, 0x70]));
    const name = der(0x30, der(0x31, der(0x30, der(0x06, [0x55, 0x04, 0x03]), der(0x0c, Buffer.from(this.guid)))));
    const dates = der(0x30, der(0x17, Buffer.from("200101000000Z")), der(0x18, Buffer.from("99991231235959Z")));
    const body = der(0x30, der(0xa0, der(0x02, [2])), der(0x02, [1]), algorithm, name, dates, name, this.spki);
    const certificate = der(0x30, body, algorithm, der(0x03, [0], crypto.sign(null, body, this.private)));
    this.tls = {
      key: this.private.export({ format: "pem", type: "pkcs8" }),
      cert: `-----BEGIN CERTIFICATE-----\n${certificate.toString("base64")}\n-----END CERTIFICATE-----\n`,
      minVersion: "TLSv1.3", rejectUnauthorized: false, requestCert: true, secureOptions: crypto.constants.SSL_OP_NO_TICKET,
    };
  }
  sign(context, ...parts) { return crypto.sign(null, Buffer.concat([Buffer.from(`roam-relay/1 ${context}\0`), ...parts]), this.private); }
}

function guidIn(socket) {  // whose certificate the other side has shown; null where it is nobody's
  const shown = socket.getPeerCertificate();
  if (!shown?.raw) return null;
  const key = new crypto.X509Certificate(shown.raw).publicKey;
  return key.asymmetricKeyType === "ed25519" ? guidOf(key.export({ format: "der", type: "spki" }).subarray(-32)) : null;
}

// -- endpoints (§6) -----------------------------------------------------------------------------------

function opened(guid, service, signed) {  // where one may dial; null where nobody may
  try {
    if (!isBin(signed?.body) || signed.body.length > 256 || !isBin(signed.signature, 64)) return null;
    if (!verified(guid, signed.signature, "endpoint", keyOf(guid), signed.body)) return null;
    const reader = new Unpacker(256, 256);
    reader.feed(signed.body);
    const [seq, named, host, port, phase, lifetime] = reader.next();
    const rank = { preferred: 0, new: 1 }[phase];
    if (named !== service || rank === undefined || !isInt(seq) || !isInt(port, 1, 65535) || !isInt(lifetime, 0, 604800)) return null;
    if (!net.isIP(host) || /^(0\.0\.0\.0|255\.255\.255\.255|::|22[4-9]\..*|23\d\..*|ff.*|::ffff:.*)$/.test(host)) return null;
    return { host, port, rank, seq };
  } catch { return null; }
}
const inOrder = (found) => found.filter(Boolean).sort((one, other) => one.rank - other.rank || other.seq - one.seq);

// -- a session (§11, the first revision) --------------------------------------------------------------

const LARGEST = 1 << 20, WINDOW = 8 << 20, WEIGHT = 32;

class Session {
  constructor(peer, id, remote, service, mode, isCaller) {
    Object.assign(this, { peer, id, remote, service, mode, isCaller });
    this.path = null; this.rank = [0, 0]; this.highest = 0;
    this.sent = 0; this.weight = 0; this.unacknowledged = []; this.queue = []; this.consumedThere = 0; this.windowThere = 0;
    this.received = 0; this.consumed = 0; this.arrived = 0; this.told = 0; this.inbox = [];
    this.closing = false; this.closeThere = false; this.closedThere = false; this.over = null;
    this.entries = []; this.ticket = ""; this.wakers = new Set(); this.first = new Promise((done) => { this.opened = done; });
  }
  wake() { for (const one of [...this.wakers]) one(); this.wakers.clear(); }
  changed() { return new Promise((done) => this.wakers.add(done)); }
  get numbers() { return { received: this.received, consumed: this.consumed, window: WINDOW }; }
  newer(path, dialedHere) {
    const rank = [path, dialedHere === this.isCaller ? 1 : 0];
    return rank[0] > this.rank[0] || (rank[0] === this.rank[0] && rank[1] > this.rank[1]) ? rank : null;
  }
  possible(there) {
    const received = there.received ?? 0, consumed = there.consumed ?? 0;
    return received <= this.sent - this.queue.length && consumed <= this.weight;
  }
  take(path, there, rank) {  // go on over a path whose head has been exchanged
    const old = this.path;
    this.path = path; this.rank = rank; this.highest = Math.max(this.highest, rank[0]);
    this.windowThere = there.window ?? WINDOW;
    this.acknowledge(there.received ?? 0, there.consumed ?? 0);
    if (there.entries?.length) this.entries = there.entries;
    this.unacknowledged.push(...this.queue); this.queue = [];
    this.frames = new Unpacker(LARGEST + 65536, LARGEST);
    path.say([1, this.received, this.consumed]);
    this.unacknowledged.forEach((payload, place) => path.say([0, this.acknowledged + place + 1, [payload]]));
    if (this.closeThere) path.say([3, this.received]);
    if (this.closing) path.say([2, this.sent]);
    if (old) old.close();
    path.onData = (data) => this.path === path && this.read(data);
    path.onEnd = () => this.path === path && this.lost();
    this.opened(); this.settle(); this.wake();
    if (path.rest.length) { const rest = path.rest; path.rest = Buffer.alloc(0); path.onData(rest); }
    if (path.ended) path.onEnd();
  }
  get acknowledged() { return this.sent - this.unacknowledged.length - this.queue.length; }
  acknowledge(received, consumed) {
    while (this.acknowledged < received) (this.unacknowledged.length ? this.unacknowledged : this.queue).shift();
    this.consumedThere = Math.max(this.consumedThere, consumed);
    this.wake();
  }
  lost() {
    this.path = null;
    if (!this.over) this.peer.search(this);
  }
  end(over) {  // `closed`, or why it is lost
    if (this.over) return;
    this.over = over;
    if (over === "closed") setTimeout(() => this.peer.sessions.delete(this.id.toString("hex")), 30_000).unref();
    else this.peer.sessions.delete(this.id.toString("hex"));
    this.wake();
  }
  violation(reason, code = "bad_message") {
    this.path?.say([6, code, reason]);
    this.end(reason);
    this.path?.close();
  }
  read(data) {
    this.frames.feed(data);
    let idle = 0;
    try {
      for (let frame = this.frames.next(); frame !== INCOMPLETE; frame = this.frames.next()) {
        if (this.over && this.over !== "closed") return;
        if (!(Array.isArray(frame) && (frame[0] === 0 || frame[0] === 1)) && ++idle > 1024) throw new Violation("frames that bring nothing", "limit_exceeded");
        this.receive(frame);
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.violation(error.message, error.code);
    }
  }
  receive(frame) {
    if (!Array.isArray(frame)) throw new Violation("no frame");
    const [kind, one, two] = frame, fields = frame.length - 1;
    if (kind === 0 && fields === 2 && isInt(one, 1) && Array.isArray(two)) return this.messages(one, two);
    if (kind === 1 && fields === 2 && isInt(one) && isInt(two)) {
      if (one > this.sent - this.queue.length || two > this.weight) throw new Violation("more than was sent");
      return this.acknowledge(one, two), this.settle();
    }
    if (kind === 2 && fields === 1 && one === this.received) { this.closeThere = true; this.path.say([3, this.received]); return this.settle(), this.wake(); }
    if (kind === 3 && fields === 1 && one === this.sent && this.closing && !this.queue.length) { this.acknowledge(one, 0); this.closedThere = true; return this.settle(); }
    if (kind === 4 && fields === 1 && isInt(one, 0, 2 ** 32 - 1)) return this.path.say([5, one]);
    if (kind === 5 && fields === 1 && isInt(one, 0, 2 ** 32 - 1)) return undefined;
    if (kind === 6 && fields === 2 && typeof one === "string" && typeof two === "string") { this.end(`the other side: ${one}`); return this.path?.close(); }
    if (kind === 7 && fields === 1 && Array.isArray(one) && one.length <= 16) {
      if (!one.every((entry) => Array.isArray(entry) && entry.length === 2 && isBin(entry[0]) && entry[0].length <= 256 && isBin(entry[1], 64))) throw new Violation("no entries");
      this.entries = one.map(([body, signature]) => ({ body, signature }));
      return undefined;
    }
    throw new Violation("no frame of the first revision");
  }
  messages(first, payloads) {
    if (first > this.received + 1) throw new Violation(`message ${first} follows ${this.received}`);
    const fresh = payloads.slice(this.received + 1 - first);
    if (!payloads.every((payload) => isBin(payload))) throw new Violation("a payload is bytes");
    if (!fresh.length) return;
    if (this.closeThere) throw new Violation("a message behind the close");
    const weight = fresh.reduce((sum, payload) => sum + payload.length + WEIGHT, 0);
    if (this.arrived - this.consumed + weight > WINDOW + LARGEST + WEIGHT) throw new Violation("beyond the window", "limit_exceeded");
    this.arrived += weight; this.received += fresh.length; this.inbox.push(...fresh);
    this.path.say([1, this.received, this.consumed]); this.told = this.consumed;
    this.wake();
  }
  settle() {  // write what may be written; see whether all is said
    while (this.path && this.queue.length) this.write();
    if (this.closeThere && !this.closing) this.close();
    if (this.closing && !this.queue.length && this.path && !this.closeSaid) { this.closeSaid = this.path; this.path.say([2, this.sent]); }
    if (this.closeThere && this.closedThere) { this.end("closed"); this.path?.close(); }
  }
  write() {
    const payload = this.queue.shift();
    this.unacknowledged.push(payload);
    this.path.say([0, this.acknowledged + this.unacknowledged.length, [payload]]);
  }
  async send(payload) {
    while (!this.over && !this.closing && this.weight - this.consumedThere >= Math.min(WINDOW, this.windowThere)) await this.changed();
    if (this.over || this.closing) throw new Error("closed");
    this.sent++; this.weight += payload.length + WEIGHT; this.queue.push(payload);
    this.settle();
  }
  async receiveMessage() {
    while (!this.inbox.length && !this.closeThere && !this.over) await this.changed();
    const payload = this.inbox.shift();
    if (payload === undefined) {
      if (this.closeThere || this.over === "closed") return null;
      throw new Error("lost");
    }
    this.consumed += payload.length + WEIGHT;
    if (this.consumed - this.told >= Math.min(WINDOW, this.windowThere) / 8) {
      this.told = this.consumed;
      this.path?.say([1, this.received, this.consumed]);
    }
    return payload;
  }
  close() { this.closing = true; this.settle(); this.wake(); }
  async closed() { this.close(); while (!this.over) await this.changed(); if (this.over !== "closed") throw new Error("lost"); }
  abort() { if (!this.over) { this.path?.say([6, "refused", "aborted"]); this.end("aborted"); this.path?.close(); } }
}

// -- a path (§10) -------------------------------------------------------------------------------------

class Path {
  constructor(socket) {
    this.socket = socket; this.rest = Buffer.alloc(0); this.ended = false; this.head = new Unpacker(65536, 65536);
    this.onData = (data) => { this.rest = Buffer.concat([this.rest, data]); };
    this.onEnd = () => {};
    const end = () => { if (!this.ended) { this.ended = true; this.onEnd(); } };
    socket.on("data", (data) => this.onData(data));
    socket.on("end", () => { socket.end(); end(); });
    socket.on("close", end); socket.on("error", end);
  }
  say(value) { if (!this.socket.destroyed && this.socket.writable) this.socket.write(pack(value)); }
  close() { this.socket.end(); setTimeout(() => this.socket.destroy(), 2000).unref(); }
  cut() { this.socket.destroy(); }
  message() {  // the one message that stands at the head; rejects where none comes
    return new Promise((done, failed) => {
      const timer = setTimeout(() => { this.cut(); failed(new Error("nothing at the head of a path")); }, 10_000);
      const read = (data) => {
        try {
          this.head.feed(data);
          const said = this.head.next();
          if (said === INCOMPLETE) return;
          clearTimeout(timer);
          this.rest = this.head.data;
          this.onData = (more) => { this.rest = Buffer.concat([this.rest, more]); };
          this.onEnd = () => {};
          done(checkedHead(said));
        } catch (error) { clearTimeout(timer); this.cut(); failed(error); }
      };
      this.onEnd = () => { clearTimeout(timer); failed(new Error("the path ended")); };
      this.onData = read;
      if (this.rest.length) { const rest = this.rest; this.rest = Buffer.alloc(0); read(rest); }
      else if (this.ended) this.onEnd();
    });
  }
}

const MODES = ["p2p", "central", "combined", "auto"];
function checkedHead(said) {
  const fail = (reason) => { throw new Violation(reason); };
  if (said === null || typeof said !== "object" || Array.isArray(said)) fail("no map");
  if (said.type === "path_reject") return typeof said.code === "string" ? said : fail("no code");
  if (said.type !== "path_hello" && said.type !== "path_welcome") fail("another message");
  for (const name of ["received", "consumed", "partial"]) if (said[name] !== undefined && !isInt(said[name])) fail(name);
  if (said.window !== undefined && !isInt(said.window, 1024)) fail("window");
  if (said.entries !== undefined && !(Array.isArray(said.entries) && said.entries.length <= 16 && said.entries.every((one) => isBin(one?.body) && one.body.length <= 256 && isBin(one.signature, 64)))) fail("entries");
  if (said.features !== undefined && !(Array.isArray(said.features) && said.features.length <= 32 && said.features.every((one) => typeof one === "string" && one.length >= 1 && one.length <= 32))) fail("features");
  if (said.type === "path_welcome") return said;
  if (!isBin(said.session, 16) || typeof said.service !== "string" || !said.service || said.service.length > 63) fail("session or service");
  if (!MODES.includes(said.mode) || (said.resume !== undefined && typeof said.resume !== "boolean")) fail("mode or resume");
  if (said.path !== undefined && !isInt(said.path, 1, 2 ** 32 - 1)) fail("path");
  if (said.version !== undefined && !isInt(said.version)) fail("version");
  return said;
}

// -- a peer -------------------------------------------------------------------------------------------

class Peer {
  constructor(relay, seed, service) {
    Object.assign(this, { relay: new URL(relay), service, identity: new Identity(seed) });
    this.instance = crypto.randomBytes(16); this.seq = 0; this.known = 0; this.sessions = new Map(); this.announced = new Map();
    this.control = null; this.requests = new Map(); this.number = 0; this.shut = false; this.relayGuid = null;
    this.server = tls.createServer(this.identity.tls, (socket) => this.serve(socket, true));
    this.server.on("tlsClientError", (_, socket) => socket.destroy());
    this.server.listen(0, "127.0.0.1", () => this.run());
  }
  get guid() { return this.identity.guid; }
  entries(service) {
    const body = pack([this.seq, service, "127.0.0.1", this.server.address().port, "preferred", 120, "interface"]);
    return [{ body, signature: this.identity.sign("endpoint", this.identity.key, body) }];
  }

  // the control connection (§5): come, and come back
  async run() {
    let failures = 0;
    while (!this.shut) {
      const came = await this.attach().catch((error) => ({ error }));
      if (this.shut || came.final) return;
      failures = came.registered ? 0 : failures + 1;
      const pause = came.after ?? Math.min(0.1 * 2 ** failures, 10) * (0.5 + Math.random() / 2);
      await wait(pause);
    }
  }
  attach() {
    return new Promise((over) => {
      const socket = net.connect(Number(this.relay.port || 80), this.relay.hostname);
      const state = { stage: "http", head: Buffer.alloc(0), heard: Date.now(), reader: new Unpacker(65536, 65536), nonce: crypto.randomBytes(32), said: {} };
      const beat = setInterval(() => {
        const silent = (Date.now() - state.heard) / 1000, heartbeat = state.heartbeat ?? 15;
        if (silent >= 2 * heartbeat) socket.destroy();
        else if (silent >= heartbeat && state.stage === "registered") control.say({ type: "ping" });
      }, 100);
      const control = { say: (message) => socket.writable && socket.write(pack(message)), socket };
      socket.on("error", () => {});
      socket.on("close", () => {
        clearInterval(beat);
        if (this.control === control) { this.control = null; for (const one of this.requests.values()) one({ code: "no relay" }); this.requests.clear(); }
        over({ registered: state.stage === "registered", ...state.said });
      });
      socket.on("end", () => socket.end());
      socket.on("connect", () => socket.write(`GET /v1/control HTTP/1.1\r\nHost: ${this.relay.host}\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n\r\n`));
      socket.on("data", (data) => {
        state.heard = Date.now();
        if (state.stage === "http") data = this.upgraded(state, control, data);
        if (!data) return;
        try {
          state.reader.feed(data);
          for (let said = state.reader.next(); said !== INCOMPLETE; said = state.reader.next()) this.told(state, control, said);
        } catch (error) { socket.destroy(); }
      });
    });
  }
  upgraded(state, control, data) {  // the bytes behind the 101, when it has come
    state.head = Buffer.concat([state.head, data]);
    for (;;) {
      const end = state.head.indexOf("\r\n\r\n");
      if (end < 0) return null;
      const status = Number(state.head.subarray(9, 12).toString());
      const rest = state.head.subarray(end + 4);
      if (status >= 100 && status < 200 && status !== 101) { state.head = rest; continue; }
      if (status !== 101) { control.socket.destroy(); return null; }
      state.stage = "greeted";
      control.say({ type: "hello", guid: this.guid, instance: this.instance, nonce: state.nonce });
      return rest;
    }
  }
  told(state, control, said) {
    if (typeof said?.type !== "string") throw new Violation("no message");
    if (said.type === "ping") return control.say({ type: "pong", ping: said.ping ?? 0 });
    if (said.type === "error") {
      const final = state.stage !== "greeted" && (said.code === "superseded" || (said.code === "not_admitted" && said.retry_after == null));
      const after = number(said.retry_after);
      if (said.code === "stale_sequence" && isInt(said.seq)) this.known = Math.max(this.known, said.seq);
      if (said.code !== "unknown_type" && said.code !== "unknown_request") state.said = { final, after: after == null ? undefined : Math.min(after, 600) * 1.1 };
      return undefined;
    }
    if (said.type === "restarting") { state.said = { after: Math.min(number(said.delay), 600) + Math.min(number(said.spread), 600) * Math.random() }; return undefined; }
    if (state.stage === "greeted" && said.type === "challenge") {
      if (!isBin(said.nonce, 32) || !isBin(said.signature, 64) || !verified(said.guid, said.signature, "challenge", this.identity.key, state.nonce, said.nonce)) throw new Violation("no relay");
      this.seq = Math.max(this.seq + 1, this.known + 1, Date.now());
      const location = pack({ seq: this.seq, services: [{ service: this.service, entries: this.entries(this.service) }] });
      const relay = keyOf(said.guid);
      this.relayKey = relay;
      state.stage = "proven";
      return control.say({ type: "register", location, signature: this.identity.sign("register", relay, said.nonce, this.identity.key, this.instance, location) });
    }
    if (state.stage === "proven" && said.type === "registered") { state.stage = "registered"; state.heartbeat = number(said.heartbeat); this.control = control; for (const session of this.sessions.values()) session.wake(); return undefined; }
    if (said.type === "service_response") { this.requests.get(said.request)?.(said); this.requests.delete(said.request); return undefined; }
    if (said.type === "service_request_from") return this.asked(control, said);
    return undefined;  // another type is passed over
  }
  request(fields) {
    const control = this.control;
    if (!control) return Promise.resolve({ code: "no relay" });
    const request = ++this.number;
    return new Promise((done) => {
      this.requests.set(request, done);
      setTimeout(() => { if (this.requests.delete(request)) done({ code: "request_timeout" }); }, 12_000).unref();
      control.say({ type: "service_request_to", request, ...fields });
    });
  }

  // what others ask (§8)
  asked(control, said) {
    const answer = (fields) => control.say({ type: "service_answer", request: said.request, ...fields });
    const id = said.session.toString("hex"), known = this.sessions.get(id);
    if (said.resume) {
      if (!known || known.remote !== said.guid || known.mode !== said.mode) return answer({ verdict: "refused", code: "session_unknown" });
      if (said.entries?.length) known.entries = said.entries;
      known.hurried?.();
    } else if (said.service !== this.service) return answer({ verdict: "refused", code: "unknown_service" });
    else if (!this.announced.has(id) && !known) {
      this.announced.set(id, { guid: said.guid, service: said.service, mode: said.mode, entries: said.entries ?? [] });
      setTimeout(() => this.announced.delete(id), 70_000).unref();
      if (said.mode === "combined" && said.entries?.length) setTimeout(() => this.meet(said), 1000).unref();
    }
    answer({ verdict: "accepted", entries: said.mode === "central" ? [] : this.entries(said.service) });
    if (said.ticket) this.leg(said.ticket).then((leg) => this.serve(new tls.TLSSocket(leg.socket, { ...this.identity.tls, isServer: true }), false, leg.resume)).catch(() => {});
    return undefined;
  }
  async meet(said) {  // dial a caller that has not come
    const id = said.session.toString("hex");
    if (!this.announced.has(id) || this.sessions.has(id)) return;
    const session = new Session(this, said.session, said.guid, said.service, said.mode, false);
    if (await this.direct(session, said.entries, 1) && this.announced.delete(id)) this.begun(session);
  }
  begun(session) { this.sessions.set(session.id.toString("hex"), session); this.echo(session); }
  async echo(session) {
    try {
      for (let payload = await session.receiveMessage(); payload !== null; payload = await session.receiveMessage()) await session.send(payload);
      session.close();
    } catch { /* it is over */ }
  }

  // a path that comes (§10)
  async serve(socket, isDirect, resume = "") {
    if (!isDirect) await new Promise((done) => { socket.once("secure", done); socket.once("close", done); socket.once("error", done); });
    const guid = socket.destroyed ? null : guidIn(socket), path = new Path(socket);
    if (!guid) return path.cut();
    const hello = await path.message().catch(() => null);
    if (!hello) return undefined;
    if (hello.type !== "path_hello") return path.cut();
    const reject = (code) => { path.say({ type: "path_reject", code }); path.close(); };
    const id = hello.session.toString("hex"), announced = this.announced.get(id);
    let session = this.sessions.get(id);
    if ((hello.version ?? 1) !== 1) return reject("version_unsupported");
    if (hello.mode === "central" ? isDirect : hello.mode !== "auto" && !isDirect) return reject("session_unknown");
    if (session) {
      if (session.remote !== guid || session.service !== hello.service || session.mode !== hello.mode) return reject("session_unknown");
    } else {
      if (hello.resume || (hello.mode !== "p2p" && (announced?.guid !== guid || announced.service !== hello.service || announced.mode !== hello.mode))) return reject("session_unknown");
      if (hello.service !== this.service) return reject("unknown_service");
      session = new Session(this, hello.session, guid, hello.service, hello.mode, false);
    }
    const rank = session.newer(hello.path ?? 1, false);
    if (!rank) return reject("path_superseded");
    if (!session.possible(hello)) return path.cut();
    path.say({ type: "path_welcome", ...session.numbers, entries: hello.mode === "central" ? [] : this.entries(session.service) });
    if (!this.sessions.has(id)) { this.announced.delete(id); session.entries = announced?.entries ?? []; this.begun(session); }
    session.ticket = resume;
    session.take(path, hello, rank);
    return undefined;
  }

  // a path that is made
  async direct(session, entries, number) {
    for (const where of inOrder(entries.map((one) => opened(session.remote, session.service, one)))) {
      const socket = tls.connect({ ...this.identity.tls, host: where.host, port: where.port });
      if (await this.hello(session, socket, number)) return true;
    }
    return false;
  }
  async plane(session, ticket, number) {
    const leg = await this.leg(ticket).catch(() => null);
    return leg !== null && this.hello(session, tls.connect({ ...this.identity.tls, socket: leg.socket }), number, leg.resume);
  }
  async hello(session, socket, path_, resume = "") {
    const path = new Path(socket);
    const open = await new Promise((done) => {
      const timer = setTimeout(() => done(false), 2000);
      socket.once("secureConnect", () => { clearTimeout(timer); done(true); });
      path.onEnd = () => { clearTimeout(timer); done(false); };
    });
    if (!open || guidIn(socket) !== session.remote || session.over || !session.newer(path_, true)) return path.cut(), false;
    session.highest = Math.max(session.highest, path_);
    path.say({
      type: "path_hello", session: session.id, service: session.service, mode: session.mode, resume: session.rank[0] > 0 || undefined, path: path_,
      ...session.numbers, entries: session.mode === "central" ? [] : this.entries(session.service),
    });
    const said = await path.message().catch(() => null);
    if (said?.type === "path_reject" && said.code === "session_unknown" && session.rank[0]) session.end("session_unknown");
    session.refusal = said?.type === "path_reject" ? said.code : session.refusal;
    const rank = session.newer(path_, true);
    if (said?.type !== "path_welcome" || !rank || session.over || !session.possible(said)) return path.cut(), false;
    session.ticket = resume;
    session.take(path, said, rank);
    if (resume && session.mode === "auto") this.direct(session, session.entries, session.highest + 1);
    return true;
  }
  leg(ticket) {
    return new Promise((done, failed) => {
      const signature = this.identity.sign("plane", this.relayKey, Buffer.from(ticket)).toString("base64url");
      const socket = net.connect(Number(this.relay.port || 80), this.relay.hostname, () => socket.write(
        `GET /v1/plane/${ticket}?guid=${this.guid}&signature=${signature} HTTP/1.1\r\nHost: ${this.relay.host}\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n\r\n`));
      let head = Buffer.alloc(0);
      const fail = () => { socket.destroy(); failed(new Error("no leg")); };
      socket.on("error", fail); socket.once("close", fail);
      const read = (data) => {
        head = Buffer.concat([head, data]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        const text = head.subarray(0, end).toString("latin1");
        if (!text.startsWith("HTTP/1.1 101")) return void fail();
        socket.off("data", read);
        socket.pause();
        if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
        done({ socket, resume: /^roam-relay-resume: *(\S+)/im.exec(text)?.[1] ?? "" });
      };
      socket.on("data", read);
    });
  }
  async connect(guid, service, mode) {
    const session = new Session(this, crypto.randomBytes(16), guid, service, mode, true);
    const id = session.id.toString("hex");
    this.sessions.set(id, session);
    const said = await this.request({ guid, service, mode, session: session.id, entries: mode === "central" || mode === "p2p" ? [] : this.entries(service) });
    if (said.code) { this.sessions.delete(id); throw new Error(said.code); }
    session.entries = said.entries ?? [];
    const made = mode === "central" || mode === "auto" ? this.plane(session, said.ticket, 1) : this.direct(session, session.entries, 1);
    const come = mode === "combined" ? session.first.then(() => true) : made;
    if (!(await Promise.race([come, made.then((open) => open || (mode === "combined" ? come : false)), wait(10).then(() => false)]))) { session.end("no path"); this.sessions.delete(id); throw new Error(session.refusal ?? "no path"); }
    return session;
  }
  async search(session) {  // the next path of a session that has lost its own (§8, §11)
    if (!session.isCaller) await wait(0.25);
    for (let pause = 0.25; !session.over && !session.path && !this.shut; pause = Math.min(2 * pause, 30)) {
      const path = session.highest + 1;
      const tries = [];
      if (session.ticket) { tries.push(this.plane(session, session.ticket, path)); session.ticket = ""; }
      else if (session.mode !== "central") tries.push(this.direct(session, session.entries, path));
      if (!(await Promise.all(tries)).includes(true) && !session.over) await this.ask(session, path);
      if (session.path || session.over) return;
      await Promise.race([wait(pause * (0.5 + Math.random() / 2)), new Promise((done) => { session.hurried = done; })]);
    }
  }
  async ask(session, path) {
    const entries = session.mode === "central" ? [] : this.entries(session.service);
    const said = await this.request({ guid: session.remote, service: session.service, mode: session.mode, session: session.id, entries, resume: true });
    if (said.code === "session_unknown") return session.end("session_unknown");
    if (said.code || session.path || session.over) return undefined;
    if (said.entries?.length) session.entries = said.entries;
    return said.ticket ? this.plane(session, said.ticket, path) : this.direct(session, session.entries, path);
  }
  async close() {
    this.shut = true;
    for (const session of this.sessions.values()) session.abort();
    this.server.close();
    this.control?.socket.end();
  }
}

// -- the adapter (docs/conformance.md) ----------------------------------------------------------------

const peers = new Map(), sessions = new Map();
const commands = {
  open({ peer, relay, key, carrier, service }) {
    if (carrier !== "raw") return { unsupported: true };
    const opened = new Peer(relay, Buffer.from(key, "hex"), service);
    peers.set(peer, opened);
    return { done: { guid: opened.guid } };
  },
  async shut({ peer }) { await peers.get(peer).close(); peers.delete(peer); return { done: {} }; },
  async connect({ peer, session, guid, service, mode }) { sessions.set(session, await peers.get(peer).connect(guid, service, mode)); return { done: {} }; },
  async send({ session, message }) { await sessions.get(session).send(Buffer.from(message, "hex")); return { done: {} }; },
  async receive({ session }) { return { done: { message: (await sessions.get(session).receiveMessage())?.toString("hex") ?? null } }; },
  async close({ session }) { await sessions.get(session).closed(); return { done: {} }; },
  abort({ session }) { sessions.get(session).abort(); return { done: {} }; },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, do: command, ...rest } = JSON.parse(line);
  let said = { unsupported: true };
  try { if (commands[command]) said = await commands[command](rest); } catch (error) { said = { failed: error.message }; }
  process.stdout.write(`${JSON.stringify({ id, ...said })}\n`);
}).on("close", () => process.exit(0));
