/** Peers in Node: TLS, direct paths, every mode and both roles, beside one another and the Python library. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import diagnostics from "node:diagnostics_channel";
import { once } from "node:events";
import net, { type Socket } from "node:net";
import { createInterface } from "node:readline";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect as tlsConnect } from "node:tls";
import { Peer as PagePeer } from "../dist/index.js";
import { LockUnsupported, PathFailed, Peer, Refused, type Mode, type NodePeerOptions, type Session } from "../dist/node.js";
import { PYTHON, Relay, until, Wire } from "./relay.js";

const PROGRAM = fileURLToPath(new URL("../test/echo_peer.py", import.meta.url));
const MODES = ["p2p", "combined", "central", "auto"] as const;
/** What waits for seconds, and the rest of the cuts. */
const isNight = Boolean(process.env["NIGHTLY"]);
const nightly = { skip: isNight ? false : "at night" };
let relay: Relay;
/** What this process has dialed and accepted, but for its relays. */
const sockets = new Set<Socket>();
/** Addresses at which nobody is reached any more. */
const gone = new Set<string>();

before(async () => {
  relay = await Relay.start();
  for (const name of ["net.client.socket", "net.server.socket"]) {
    diagnostics.subscribe(name, (message) => {
      const { socket } = message as { socket: Socket };
      if (gone.has(socket.localAddress ?? "")) socket.destroy();
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
  }
});
after(() => relay.stop());

/** A peer that is closed behind the test, also where that fails. */
async function open(options: NodePeerOptions, of: { open(options: NodePeerOptions): Promise<PagePeer> }): Promise<PagePeer>;
async function open(options: NodePeerOptions): Promise<Peer>;
async function open(options: NodePeerOptions, of: { open(options: NodePeerOptions): Promise<PagePeer> } = Peer): Promise<PagePeer> {
  const peer = await of.open(options);
  opened.push(peer);
  return peer;
}
const opened: PagePeer[] = [];
afterEach(() => Promise.all(opened.splice(0).map((peer) => peer.close())));

const text = (message: Uint8Array | null) => new TextDecoder().decode(message!);
const lost = (session: Session) => session.explain().trace.filter(({ what }) => what.startsWith("path lost")).length;

/** End every direct path of this process. */
function cutDirect(wires: readonly Wire[]): void {
  const ports = [relay.port, ...wires.map(({ url }) => Number(new URL(url).port))];
  for (const socket of [...sockets]) {
    if (!ports.includes(socket.remotePort ?? 0) && !ports.includes(socket.localPort ?? 0)) socket.destroy();
  }
}

/** Say numbers and expect them back, over so many cuts between the first and the last. */
async function converse(session: Session, count: number, cuts: number, cut: () => void): Promise<void> {
  let heard = 0;
  const say = async () => {
    for (let number = 1; number <= count; number++) {
      await session.send(`${number}`);
      if (number % (count / cuts) !== 0) continue;
      await until(() => heard > 0 && session.path.path);
      const before = lost(session);
      cut();
      await until(() => lost(session) > before && session.path.path);
    }
  };
  const hear = async () => {
    for (; heard < count; heard++) assert.equal(text(await session.receive()), `${heard + 1}`);
  };
  await Promise.all([say(), hear()]);
}

for (const mode of MODES) {
  test(`two peers in Node, ${mode}`, async () => {
    const callee = await open({ relay: relay.url });
    const listener = callee.listen("chat");
    await callee.published();
    const caller = await open({ relay: relay.url });
    const [asking, asked] = (await Promise.all([caller.connect(callee.guid, "chat", { mode, metadata: "who" }), listener.accept()])) as [Session, Session];
    await asking.send("there");
    assert.equal(text(await asked.receive()), "there");
    await asked.send("back");
    assert.equal(text(await asking.receive()), "back");
    assert.equal(text(asked.metadata), "who");
    const expected = mode === "central" ? "relayed" : "direct";
    await until(() => asking.path.path === expected && asked.path.path === expected);
    assert.deepEqual([asking.explain().lock, asked.explain().lock, asking.mode], ["tls", "tls", mode]);
    await Promise.all([asking.close(), asked.closed()]);
    await Promise.all([caller.close(), callee.close()]);
  });
}

test("a peer in Node and one of the Python library that takes TLS alone, whoever calls, over cuts", async () => {
  const wires = await Promise.all([Wire.to(relay.port), Wire.to(relay.port)]);
  const child = spawn(PYTHON, [PROGRAM, wires[1]!.url, "tls"], { stdio: ["pipe", "pipe", "inherit"] });
  let peer: Peer | null = null;
  try {
    const lines = createInterface({ input: child.stdout });
    const [guid] = (await once(lines, "line")) as [string];
    peer = await open({ relay: wires[0]!.url });
    const listener = peer.listen("chat");
    await peer.published();
    const expect = async (session: Session, mode: Mode, cut: () => void) => {
      const wanted = mode === "central" ? "relayed" : "direct";
      await until(() => session.path.path === wanted);
      assert.equal(session.explain().lock, "tls");
      await converse(session, 1000, mode === "central" ? 1 : isNight ? 10 : 2, cut);
      await until(() => session.path.path === wanted);
      await session.close();
      assert.equal(session.mode, mode);
    };
    for (const mode of MODES) {
      let turn = 0;
      const cut = () => (mode === "central" ? wires[turn++ % 2]!.cut() : cutDirect(wires));
      // A cut takes the control connection along: the other side may be away for a moment.
      await expect(await peer.connect(guid, "chat", { mode, wait: true }), mode, cut);
      child.stdin.write(`${peer.guid} ${mode}\n`);
      await expect((await listener.accept())!, mode, cut);
    }
  } finally {
    await peer?.close();
    child.stdin.end("\n");
    await once(child, "exit");
    for (const wire of wires) wire.close();
  }
});

/** A caller and a callee, and the session between them. */
async function pair(mode: Mode, callee: object = {}, caller: object = {}) {
  const asked = await open({ relay: relay.url, direct: callee });
  const listener = asked.listen("chat");
  await asked.published();
  const asking = await open({ relay: relay.url, direct: caller });
  const [here, there] = await Promise.all([asking.connect(asked.guid, "chat", { mode }), listener.accept()]);
  const end = () => Promise.all([asking.close(), asked.close()]);
  return { asking, asked, here, there: there as Session, end };
}

async function numbers(from: Session, to: Session, count: number, each: (number: number) => unknown = () => 0): Promise<void> {
  const say = async () => {
    for (let number = 0; number < count; number++) {
      await from.send(`${number}`);
      await each(number);
    }
  };
  const hear = async () => {
    for (let number = 0; number < count; number++) assert.equal(text(await to.receive()), `${number}`);
  };
  await Promise.all([say(), hear()]);
}

test("messages of both ways, over ten cuts of a direct path between two in Node", async () => {
  for (const mode of isNight ? (["p2p", "combined", "auto"] as const) : (["p2p"] as const)) {
    const { here, there, end } = await pair(mode);
    await until(() => here.path.path === "direct");
    const cut = async (number: number) => {
      if (number % 100 !== 50) return;
      await until(() => here.path.path !== null);
      const before = lost(here);
      cutDirect([]);
      await until(() => lost(here) > before && here.path.path);
    };
    const large = new Uint8Array(1 << 20).map((_, place) => place % 251);
    await Promise.all([numbers(here, there, 1000, cut), numbers(there, here, 1000)]);
    await here.send(large);
    assert.deepEqual(await there.receive(), large);
    assert.equal(lost(here), 10);
    await Promise.all([here.close(), there.closed()]);
    await end();
  }
});

test("a host whose address goes: its session moves to where it has said that it will be", async () => {
  // Another address than that of its flow: the relay tells of it once it has met the key there.
  let addresses = ["127.0.0.2"];
  const asked = await open({ relay: relay.url, direct: { addresses: () => addresses } });
  const listener = asked.listen("chat");
  const asking = await open({ relay: relay.url, direct: { addresses: () => [] } });
  const proven = () => asking.connect(asked.guid, "chat", { mode: "p2p" }).catch((error: Error) => {
    assert.ok(error instanceof Refused, String(error));
    return null;
  });
  const here = await until(proven), there = (await listener.accept())!;
  const at = (session: Session) => session.explain().trace.filter(({ what }) => what.startsWith("path ")).map(({ what }) => what);
  assert.deepEqual(at(here), ["path 1, direct, 127.0.0.2"]);
  addresses = ["127.0.0.2", "127.0.0.3"];
  await until(() => asked.endpoints.some(({ host }) => host === "127.0.0.3"));
  assert.equal(lost(here), 0); // Where one has come, nothing moves.
  let number = 0;
  await numbers(here, there, 400, async () => {
    if (number++ !== 200) return;
    addresses = ["127.0.0.3"];
    gone.add("::ffff:127.0.0.2");
    await until(() => at(there).includes("path lost: the address 127.0.0.2 is gone"));
  });
  await numbers(there, here, 10);
  assert.match(at(here).at(-1)!, /direct, 127.0.0.3$/);
  await Promise.all([here.close(), there.closed()]);
  await Promise.all([asking.close(), asked.close()]);
});

test("who is called dials, where it cannot be reached", async () => {
  const nowhere = { addresses: () => [], advertise: ["127.0.0.1:1"] };
  const { here, there, end } = await pair("combined", nowhere);
  assert.deepEqual([here.path.path, here.mode, there.mode], ["direct", "combined", "combined"]);
  await numbers(here, there, 10);
  await end();
});

test("a session that finds nothing direct goes by the relay, unless it must not", nightly, async () => {
  const nowhere = { addresses: () => [], advertise: ["127.0.0.1:1"] };
  const asked = await open({ relay: relay.url, direct: nowhere });
  const listener = asked.listen("chat");
  await asked.published();
  const asking = await open({ relay: relay.url, direct: nowhere });
  await Promise.all([
    assert.rejects(asking.connect(asked.guid, "chat", { mode: "combined", fallback: false }), PathFailed),
    (async () => {
      const here = await asking.connect(asked.guid, "chat", { mode: "combined" });
      const there = (await listener.accept())!;
      assert.deepEqual([here.path.path, here.mode, there.mode], ["relayed", "auto", "auto"]);
      await numbers(here, there, 10);
    })(),
  ]);
  await Promise.all([asking.close(), asked.close()]);
});

test("another key at an endpoint, and none, are not the other side", async () => {
  const other = await open({ relay: relay.url });
  const at = `127.0.0.1:${other.endpoints[0]!.port}`;
  const asked = await open({ relay: relay.url, direct: { addresses: () => [], advertise: [at] } });
  asked.listen("chat");
  await asked.published();
  const asking = await open({ relay: relay.url });
  await assert.rejects(asking.connect(asked.guid, "chat", { mode: "p2p" }), (error: Error) => {
    assert.ok(error instanceof PathFailed, String(error));
    assert.match(error.message, /another key/);
    return true;
  });
  // One without a certificate, as the relay that proves an endpoint, learns the key and is let in nowhere.
  const client = tlsConnect({ host: "127.0.0.1", port: other.endpoints[0]!.port, rejectUnauthorized: false, minVersion: "TLSv1.3" });
  client.on("error", () => undefined);
  const closed = once(client, "close");
  await once(client, "secureConnect");
  assert.ok(client.getPeerX509Certificate()!.subject.includes(other.guid));
  client.resume();
  await closed;
  await Promise.all([asking.close(), asked.close(), other.close()]);
});

test("strangers at the listener have a share, and give it back", async () => {
  const asked = await open({ relay: relay.url });
  asked.listen("chat");
  await asked.published();
  const { port } = asked.endpoints[0]!;
  const asking = await open({ relay: relay.url });
  const stranger = async (first?: Uint8Array) => {
    const socket = net.connect(port, "127.0.0.1");
    const state = { socket, isOver: false };
    socket.on("error", () => undefined).on("close", () => (state.isOver = true)).resume();
    await once(socket, "connect");
    if (first) socket.write(first);
    return state;
  };
  const loud = await Promise.all(Array.from({ length: 8 }, () => stranger(crypto.getRandomValues(new Uint8Array(4096)))));
  await until(() => loud.every(({ isOver }) => isOver));
  const quiet = await Promise.all(Array.from({ length: 40 }, () => stranger()));
  await until(() => quiet.filter(({ isOver }) => isOver).length === 8);
  await assert.rejects(asking.connect(asked.guid, "chat", { mode: "p2p" }), PathFailed);
  for (const { socket } of quiet) socket.destroy();
  await until(async () => asking.connect(asked.guid, "chat", { mode: "p2p" }).then(() => true, () => false));
  await Promise.all([asking.close(), asked.close()]);
});

test("what cannot be is said", async () => {
  const page = await open({ relay: relay.url }, PagePeer);
  const asked = await open({ relay: relay.url, direct: false, locks: ["noise"] });
  asked.listen("chat");
  await asked.published();
  await assert.rejects(page.connect(asked.guid, "chat", { mode: "p2p" }), TypeError);
  const session = await page.connect(asked.guid, "chat");
  assert.equal(session.explain().lock, "noise");
  // One that takes both, with one that takes this alone, whoever calls.
  const both = await open({ relay: relay.url });
  const [listener, pages] = [both.listen("chat"), page.listen("chat")];
  await Promise.all([both.published(), page.published()]);
  for (const [from, to, at] of [[page, both, listener], [both, page, pages]] as const) {
    const [here, there] = await Promise.all([from.connect(to.guid, "chat"), at.accept()]);
    assert.deepEqual([here.explain().lock, there!.explain().lock, here.path.path], ["noise", "noise", "relayed"]);
    await numbers(here, there!, 10);
  }
  const asking = await open({ relay: relay.url, locks: ["tls"] });
  await assert.rejects(asking.connect(asked.guid, "chat", { mode: "central" }), LockUnsupported);
  await assert.rejects(asking.connect(asked.guid, "chat", { mode: "p2p" }), Refused);
  await assert.rejects(asking.connect(page.guid, "chat", { mode: "sideways" as Mode }), TypeError);
  assert.deepEqual(asked.endpoints, []);
  const { relay: url } = { relay: relay.url };
  for (const wrong of [
    { locks: [] }, { locks: ["rot13"] }, { identity: page.identity }, { direct: { port: 1.5 } }, { direct: { port: 70_000 } },
    { direct: { host: "localhost" } }, { direct: { advertise: ["host:1"] } }, { direct: { dial: "wild" } },
    { direct: { addresses: () => ["here"] } }, { direct: { addresses: [] } }, { direct: { advertise: "127.0.0.1" } },
  ]) {
    await assert.rejects(open({ relay: url, ...(wrong as object) }), (error) => error instanceof TypeError || error instanceof RangeError);
  }
  await assert.rejects(open({ relay: url, direct: { port: both.endpoints[0]!.port } }), /Port 0 takes any free one/);
  await Promise.all([page.close(), asked.close(), asking.close(), both.close()]);
});

test("a session in combined whose direct paths all fail goes on by the relay, and is direct again", nightly, async () => {
  const free = net.createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address() as net.AddressInfo;
  free.close();
  await once(free, "close");
  const wire = await Wire.to(port);
  let addresses: string[] = [];
  const far = { addresses: () => [] };
  const { here, there, end } = await pair("combined", { addresses: () => addresses, port, advertise: [new URL(wire.url).host] }, far);
  assert.equal(here.path.path, "direct");
  await numbers(here, there, 10);
  wire.target = 1;
  wire.cut();
  await numbers(here, there, 10);
  await until(() => here.path.path === "relayed" && there.path.path === "relayed");
  wire.target = port;
  addresses = ["192.0.2.99"]; // Told of another endpoint, the other side looks at once, and else once a minute.
  await numbers(there, here, 10);
  await until(() => here.path.path === "direct" && there.path.path === "direct");
  await numbers(here, there, 10);
  await end();
  wire.close();
});
