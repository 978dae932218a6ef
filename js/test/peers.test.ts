/** Two peers over a real relay: what arrives, over cuts, a relay's restart and silence; and what is refused. */

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, test } from "node:test";
import {
  Identity, LimitExceeded, LockUnsupported, Peer, PeerOffline, Refused, RelayUnavailable, RequestTimeout, SessionClosed,
  SessionLost, Superseded, UnknownPeer, UnknownService, type Session,
} from "../dist/index.js";
import { copied } from "../dist/bytes.js";
import { ControlConnection } from "../dist/control.js";
import { Relay, until, Wire } from "./relay.js";

let relay: Relay;

before(async () => {
  relay = await Relay.start();
});
after(() => relay.stop());

const text = (message: Uint8Array | null) => new TextDecoder().decode(message!);

/** A caller and a callee, the session between them, and a wire for each. */
async function pair(options: { mode?: "auto" | "central"; session?: object } = {}) {
  const wires = [await Wire.to(relay.port), await Wire.to(relay.port)] as const;
  const more = options.session ? { session: options.session } : {};
  const callee = await Peer.open({ relay: wires[1].url, ...more });
  const listener = callee.listen("chat");
  const caller = await Peer.open({ relay: wires[0].url, ...more });
  const [asking, asked] = await Promise.all([caller.connect(callee.guid, "chat", { mode: options.mode ?? "auto", wait: true }), listener.accept()]);
  const end = async () => {
    await Promise.all([caller.close(), callee.close()]);
    for (const wire of wires) wire.close();
  };
  return { caller, callee, listener, wires, asking, asked: asked as Session, end };
}

/** Send so many numbered messages, and say something after each. */
async function sendAll(session: Session, count: number, each: (number: number) => unknown = () => 0): Promise<void> {
  for (let number = 0; number < count; number++) {
    await session.send(`${number}`);
    await each(number);
  }
}

async function expectAll(session: Session, count: number): Promise<void> {
  for (let number = 0; number < count; number++) assert.equal(text(await session.receive()), `${number}`);
}

test("messages go both ways, and a close is clean", async () => {
  for (const mode of ["auto", "central"] as const) {
    const { asking, asked, caller, callee, end } = await pair({ mode });
    assert.equal(asked.remote, caller.guid);
    assert.equal(asking.remote, callee.guid);
    const large = crypto.getRandomValues(new Uint8Array(65_536));
    const whole = new Uint8Array(1 << 20).map((_, place) => large[place & 65_535]!);
    await asking.send("hello");
    await asking.send(whole);
    await asking.send("");
    assert.equal(text(await asked.receive()), "hello");
    assert.deepEqual(await asked.receive(), whole);
    assert.deepEqual(await asked.receive(), new Uint8Array(0));
    await asked.send("back");
    assert.equal(text(await asking.receive()), "back");
    const said = asking.explain();
    assert.deepEqual([said.path, said.lock, said.state, said.mode], ["relayed", "noise", "open", mode]);
    const closing = asking.close();
    assert.equal(await asked.receive(), null);
    await Promise.all([closing, asked.closed()]);
    await assert.rejects(asking.send("late"), SessionClosed);
    await end();
  }
});

test("a direction ends by itself", async () => {
  const { asking, asked, end } = await pair();
  await asking.send("question");
  await asking.finish();
  const got: string[] = [];
  for await (const message of asked) got.push(text(message));
  assert.deepEqual(got, ["question"]);
  await asked.send("answer");
  assert.equal(text(await asking.receive()), "answer");
  await Promise.all([asked.close(), asking.closed()]);
  await end();
});

test("nothing is lost, doubled or swapped over cuts of either side", async () => {
  const { asking, asked, wires, end } = await pair();
  const count = 2000;
  const paths = () => asking.explain().trace.filter(({ what }) => what.startsWith("path lost")).length;
  const cut = async (number: number) => {
    if (number % 500 !== 250) return;
    const before = paths();
    wires[number % 1000 === 250 ? 0 : 1].cut();
    await until(() => paths() > before && asking.path.path);
  };
  await Promise.all([
    sendAll(asking, count, cut), sendAll(asked, count), expectAll(asking, count), expectAll(asked, count),
  ]);
  assert.equal(paths(), 4);
  // Who is told the ticket of the next plane needs no request for it.
  const { trace } = asking.explain();
  assert.ok(trace.some(({ what }) => what.startsWith("by the last plane's ticket")), JSON.stringify(trace));
  await Promise.all([asking.close(), asked.closed()]);
  await end();
});

test("a relay that is killed, and another one in its place", async () => {
  const first = await Relay.start();
  const wires = await Promise.all([Wire.to(first.port), Wire.to(first.port)]);
  const callee = await Peer.open({ relay: wires[1]!.url });
  const listener = callee.listen("chat");
  const caller = await Peer.open({ relay: wires[0]!.url });
  const [asking, asked] = await Promise.all([caller.connect(callee.guid, "chat", { wait: true }), listener.accept()]);
  await sendAll(asking, 10);
  await first.stop("SIGKILL");
  await sendAll(asking, 10);
  await sendAll(asked!, 10);
  const second = await Relay.start();
  for (const wire of wires) wire.target = second.port;
  await expectAll(asked!, 10);
  await expectAll(asked!, 10);
  await expectAll(asking, 10);
  await Promise.all([caller.close(), callee.close()]);
  for (const wire of wires) wire.close();
  await second.stop();
});

test("a path that says nothing is given up, and the session goes on", async () => {
  const { asking, asked, wires, end } = await pair({ session: { pingInterval: 0.2, silenceLimit: 1 } });
  wires[0].silence();
  await sendAll(asked, 5);
  await until(() => asked.path.path === null);
  wires[0].cut();
  wires[0].silence(false);
  await expectAll(asking, 5);
  await end();
});

test("a receiver that does not take stops its sender at the window", async () => {
  const { asking, asked, end } = await pair({ session: { window: 65_536 } });
  const message = new Uint8Array(16_384);
  let taken = 0;
  const sending = (async () => {
    for (let one = 0; one < 32; one++) {
      await asking.send(message);
      taken += 1;
    }
  })();
  await until(() => asked.explain().received >= 4);
  const controller = new AbortController();
  const waiting = asking.send("not taken", { signal: controller.signal });
  await new Promise((done) => setTimeout(done, 50));
  assert.ok(taken <= 5, `${taken} were taken`);
  controller.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  for (let one = 0; one < 32; one++) assert.equal((await asked.receive())!.length, 16_384);
  await sending;
  await asking.close();
  assert.equal(await asked.receive(), null);
  await end();
});

test("an end without a close is told on both sides, with what was not acknowledged", async () => {
  const { asking, asked, end } = await pair();
  asking.abort("changed my mind");
  await assert.rejects(asked.receive(), (error) => error instanceof SessionLost && error.code === "refused");
  await assert.rejects(asking.closed(), SessionLost);
  await end();
  const other = await pair({ session: { resumeWindow: 0.5, silenceLimit: 0.3, pingInterval: 0.1 } });
  other.wires[0].close();
  other.wires[1].close();
  await until(() => other.asking.path.path === null);
  await other.asking.send("never");
  const lost = await other.asking.closed().catch((error: unknown) => error);
  assert.ok(lost instanceof SessionLost && lost.unacknowledged === 1);
  await other.end();
});

test("what is refused has the error of its code", async () => {
  const callee = await Peer.open({ relay: relay.url });
  const caller = await Peer.open({ relay: relay.url, agent: "a test" });
  const nobody = await Identity.generate();
  await assert.rejects(caller.connect(nobody.guid, "chat"), UnknownPeer);
  await assert.rejects(caller.connect(callee.guid, "chat"), UnknownService);
  callee.listen("chat", { select: ({ metadata }) => (text(metadata) === "please" ? true : "say please") });
  await until(async () => (await caller.connect(callee.guid, "chat").catch((error: unknown) => error)) instanceof Refused);
  await (await caller.connect(callee.guid, "chat", { metadata: "please" })).close();
  await assert.rejects(caller.connect("no guid", "chat"), /no GUID/);
  await assert.rejects(caller.connect(callee.guid, "No Name"), TypeError);
  const signal = AbortSignal.abort(new Error("not now"));
  await assert.rejects(caller.connect(callee.guid, "chat", { signal }), /not now/);
  assert.equal((await caller.lookup(callee.guid, "chat")).state, "online");
  await assert.rejects(caller.lookup(callee.guid, "other"), UnknownService);
  await callee.close();
  const away = async () => caller.connect(callee.guid, "chat").catch((error: unknown) => error);
  const offline = await until(async () => [await away()].find((error) => error instanceof PeerOffline));
  assert.ok(offline.lastSeen !== null);
  await caller.close();
});

test("of two programs with one key the newer one stays, and the older one does not fight", async () => {
  const identity = await Identity.generate();
  const older = await Peer.open({ relay: relay.url, identity });
  const newer = await Peer.open({ relay: relay.url, identity });
  const states: string[] = [];
  for await (const status of older.statuses()) states.push(status.state);
  assert.equal(states.at(-1), "over");
  await assert.rejects(older.connect((await Identity.generate()).guid, "chat"), Superseded);
  assert.equal(newer.status.state, "online");
  await Promise.all([older.close(), newer.close()]);
});

test("a watch tells who comes and goes, over a cut", async () => {
  const wire = await Wire.to(relay.port);
  const watcher = await Peer.open({ relay: wire.url });
  const identity = await Identity.generate();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const { state } of watcher.watch(identity.guid)) {
      if (seen.at(-1) !== state) seen.push(state);
      if (seen.filter((one) => one === "online").length === 2) return;
    }
  })();
  await until(() => seen.includes("offline") || seen.includes("suspect"));
  const first = await Peer.open({ relay: relay.url, identity });
  first.listen("chat");
  await until(() => seen.at(-1) === "online");
  wire.cut();
  await watching;
  assert.ok(seen.includes("unknown"));
  await Promise.all([first.close(), watcher.close()]);
  wire.close();
});

test("one that waits is connected when the other comes", async () => {
  const caller = await Peer.open({ relay: relay.url });
  const identity = await Identity.generate();
  const connecting = caller.connect(identity.guid, "chat", { wait: true });
  const callee = await Peer.open({ relay: relay.url, identity });
  const listener = callee.listen("chat");
  const [asking, asked] = await Promise.all([connecting, listener.accept()]);
  await asking.send("there you are");
  assert.equal(text(await asked!.receive()), "there you are");
  await Promise.all([caller.close(), callee.close()]);
});

test("another relay than the one that is wanted is not taken", async () => {
  const wanted = await Identity.generate();
  const wrong = { relay: relay.url, relayGuid: wanted.guid };
  await assert.rejects(Peer.open(wrong), RelayUnavailable);
  const signal = AbortSignal.timeout(200);
  await assert.rejects(Peer.open({ ...wrong, wait: true, signal }), (error) => error === signal.reason);
  await assert.rejects(Peer.open({ relay: `${relay.url}/path` }), TypeError);
});

/** Answers that the relay gives to the next requests, or null for none; and how many were made. */
async function answering(answers: readonly (object | null)[], work: (count: () => number) => Promise<void>): Promise<void> {
  const { request } = ControlConnection.prototype;
  let count = 0;
  ControlConnection.prototype.request = function (...asked) {
    const answer = answers[count++];
    return answer === undefined ? request.apply(this, asked) : (Promise.resolve(answer) as ReturnType<typeof request>);
  };
  try {
    await work(() => count);
  } finally {
    ControlConnection.prototype.request = request;
  }
}

test("one that waits for a service asks again when the other peer has changed", async () => {
  const caller = await Peer.open({ relay: relay.url });
  const callee = await Peer.open({ relay: relay.url });
  callee.listen("other"); // Who offers nothing is not told to be there.
  await answering([], async (count) => {
    const connecting = caller.connect(callee.guid, "late", { wait: true });
    await until(() => count() === 2);
    // Time for many more requests, if they were made without a reason.
    for (let one = 0; one < 50; one++) await caller.lookup(callee.guid, "late").catch(() => undefined);
    const listener = callee.listen("late");
    await Promise.all([connecting, listener.accept()]);
    assert.ok(count() <= 4, `${count()} requests`);
  });
  await Promise.all([caller.close(), callee.close()]);
});

test("what passes is waited for, and nothing else", async () => {
  const caller = await Peer.open({ relay: relay.url });
  const callee = await Peer.open({ relay: relay.url });
  const listener = callee.listen("chat");
  const code = (code: string, retry_after: number | null = null) => ({ code, reason: "", retry_after, last_seen: null });
  await answering([code("cluster_unavailable"), code("limit_exceeded", 0.1), null], async (count) => {
    await Promise.all([caller.connect(callee.guid, "chat", { wait: true }), listener.accept()]);
    assert.equal(count(), 4);
  });
  await answering([code("limit_exceeded")], async () => {
    await assert.rejects(caller.connect(callee.guid, "chat", { wait: true }), LimitExceeded);
  });
  await Promise.all([caller.close(), callee.close()]);
});

test("without a relay a request ends in its time, and one that waits is made when it is back", async () => {
  const wire = await Wire.to(relay.port);
  const caller = await Peer.open({ relay: wire.url });
  const callee = await Peer.open({ relay: relay.url });
  const listener = callee.listen("chat");
  wire.target = 1; // Nobody listens there.
  wire.cut();
  await until(() => caller.status.state === "away");
  await assert.rejects(caller.connect(callee.guid, "chat", { timeout: 0.2 }), RelayUnavailable);
  const connecting = caller.connect(callee.guid, "chat", { timeout: 0.2, wait: true });
  wire.target = relay.port;
  await Promise.all([connecting, listener.accept()]);
  const mute = net.createServer().listen(0, "127.0.0.1");
  await once(mute, "listening");
  wire.target = (mute.address() as net.AddressInfo).port;
  await assert.rejects(caller.lookup(callee.guid, "chat", { timeout: 0.2 }), RequestTimeout);
  await Promise.all([caller.close(), callee.close()]);
  wire.close();
  mute.close();
});

test("wrong arguments are refused where they are given, and cost no connection", async () => {
  const caller = await Peer.open({ relay: relay.url });
  const callee = await Peer.open({ relay: relay.url });
  const listener = callee.listen("chat");
  const refused = (options: object, error: typeof TypeError | typeof RangeError) =>
    assert.rejects(caller.connect(callee.guid, "chat", options), error, JSON.stringify(options));
  for (const timeout of [61, 0, -1, NaN, Infinity]) {
    await refused({ timeout }, RangeError);
    await assert.rejects(caller.lookup(callee.guid, "chat", { timeout }), RangeError);
  }
  await refused({ timeout: "10" }, TypeError);
  for (const mode of ["direct", "p2p", 1, null]) await refused({ mode }, TypeError);
  for (const metadata of [new ArrayBuffer(3), 7, [1], {}]) await refused({ metadata }, TypeError);
  await refused({ metadata: new Uint8Array(1025) }, RangeError);
  for (const session of [{ window: NaN }, { window: 2048.5 }, { window: "8192" }, { linger: Infinity }, { pingInterval: 0 }, { silenceLimit: NaN }]) {
    await assert.rejects(Peer.open({ relay: relay.url, session: session as object }), RangeError, JSON.stringify(session));
  }
  // A part of a second is a float on the wire.
  const [asking, asked] = await Promise.all([caller.connect(callee.guid, "chat", { timeout: 9.5 }), listener.accept()]);
  for (const message of [new ArrayBuffer(3), 7, null, undefined, [1], new Uint16Array(2), new DataView(new ArrayBuffer(2))]) {
    await assert.rejects(asking.send(message as never), TypeError);
  }
  await asking.send(Buffer.from("still here"));
  assert.equal(text(await asked!.receive()), "still here");
  assert.equal(caller.status.state, "online");
  const buffer = Buffer.from("before");
  const copy = copied(buffer);
  buffer.fill(0);
  assert.equal(text(copy), "before");
  await Promise.all([caller.close(), callee.close()]);
});

test("by a relay that passes no offers on a session keeps its lock, and none begins", async () => {
  const { asking, asked, caller, callee, wires, end } = await pair();
  const own = Object.getOwnPropertyDescriptor(ControlConnection.prototype, "passesOffers")!;
  Object.defineProperty(ControlConnection.prototype, "passesOffers", { get: () => false, configurable: true });
  try {
    await assert.rejects(caller.connect(callee.guid, "chat", { wait: true }), LockUnsupported);
    for (const peer of [caller, callee]) {
      const { routes } = peer as unknown as { routes: Map<string, { ticket: string | null }> };
      for (const route of routes.values()) route.ticket = null; // It has to be asked for.
    }
    for (const wire of wires) wire.cut();
    await asking.send("still here");
    assert.equal(text(await asked.receive()), "still here");
    const whats = [...asking.explain().trace, ...asked.explain().trace].map(({ what }) => what);
    assert.ok(whats.includes("by a request: a plane"), whats.join("; "));
  } finally {
    Object.defineProperty(ControlConnection.prototype, "passesOffers", own);
  }
  await end();
});
