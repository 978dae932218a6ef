/** Peers in Node: TLS, direct paths, every mode and both roles, beside one another and the Python library. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import diagnostics from "node:diagnostics_channel";
import { once } from "node:events";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Peer, type Mode, type Session } from "../dist/node.js";
import { PYTHON, Relay, until, Wire } from "./relay.js";

const PROGRAM = fileURLToPath(new URL("../test/echo_peer.py", import.meta.url));
const MODES = ["p2p", "combined", "central", "auto"] as const;
let relay: Relay;
/** What this process has dialed and accepted, but for its relays. */
const sockets = new Set<Socket>();

before(async () => {
  relay = await Relay.start();
  for (const name of ["net.client.socket", "net.server.socket"]) {
    diagnostics.subscribe(name, (message) => {
      const { socket } = message as { socket: Socket };
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
  }
});
after(() => relay.stop());

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
    const callee = await Peer.open({ relay: relay.url });
    const listener = callee.listen("chat");
    await callee.published();
    const caller = await Peer.open({ relay: relay.url });
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

test("a peer in Node and one of the Python library that takes TLS alone, whoever calls, over ten cuts of each", async () => {
  const wires = await Promise.all([Wire.to(relay.port), Wire.to(relay.port)]);
  const child = spawn(PYTHON, [PROGRAM, wires[1]!.url, "tls"], { stdio: ["pipe", "pipe", "inherit"] });
  let peer: Peer | null = null;
  try {
    const lines = createInterface({ input: child.stdout });
    const [guid] = (await once(lines, "line")) as [string];
    peer = await Peer.open({ relay: wires[0]!.url });
    const listener = peer.listen("chat");
    await peer.published();
    const expect = async (session: Session, mode: Mode, cut: () => void) => {
      const wanted = mode === "central" ? "relayed" : "direct";
      await until(() => session.path.path === wanted);
      assert.equal(session.explain().lock, "tls");
      await converse(session, 1000, 10, cut);
      await until(() => session.path.path === wanted);
      await session.close();
      assert.equal(session.mode, mode);
    };
    for (const mode of MODES) {
      let turn = 0;
      const cut = () => (mode === "central" ? wires[turn++ % 2]!.cut() : cutDirect(wires));
      await expect(await peer.connect(guid, "chat", { mode }), mode, cut);
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
