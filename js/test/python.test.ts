/** A peer of this package and one of the Python library, over a real relay and cuts, whoever calls. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Peer, type Session } from "../dist/index.js";
import { PYTHON, Relay, until, Wire } from "./relay.js";

const PROGRAM = fileURLToPath(new URL("../test/echo_peer.py", import.meta.url));
const decoder = new TextDecoder();

/** Say numbers and expect them back, with cuts between the first and the last. */
async function converse(session: Session, count: number, cut: () => void): Promise<void> {
  const lost = () => session.explain().trace.filter(({ what }) => what.startsWith("path lost")).length;
  let heard = 0;
  const say = async () => {
    for (let number = 1; number <= count; number++) {
      await session.send(`${number}`);
      if (number % 250 !== 0) continue;
      await until(() => heard > 0); // Who has called has its first path then.
      const before = lost();
      cut();
      await until(() => lost() > before && session.path.path);
    }
  };
  const hear = async () => {
    for (; heard < count; heard++) assert.equal(decoder.decode((await session.receive())!), `${heard + 1}`);
  };
  await Promise.all([say(), hear()]);
}

test("a peer of this package and one of the Python library", async () => {
  const relay = await Relay.start();
  const wires = await Promise.all([Wire.to(relay.port), Wire.to(relay.port)]);
  const child = spawn(PYTHON, [PROGRAM, wires[1]!.url], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: child.stdout });
    const [guid] = (await once(lines, "line")) as [string];
    const peer = await Peer.open({ relay: wires[0]!.url });
    const listener = peer.listen("chat");
    for (const mode of ["auto", "central"] as const) {
      const session = await peer.connect(guid, "chat", { mode, wait: true });
      let turn = 0;
      await converse(session, 1000, () => wires[turn++ % 2]!.cut());
      const large = new Uint8Array(1 << 20).map((_, place) => place % 251);
      await session.send(large);
      assert.deepEqual(await session.receive(), large);
      await session.finish();
      assert.equal(await session.receive(), null);
      await session.close();
    }
    child.stdin.write(`${peer.guid}\n`);
    const called = (await listener.accept())!;
    assert.equal(called.remote, guid);
    await converse(called, 500, () => wires[1]!.cut());
    await called.close();
    await peer.close();
  } finally {
    child.stdin.end("\n");
    await once(child, "exit");
    for (const wire of wires) wire.close();
    await relay.stop();
  }
});
