/** Peers in Node: TLS, direct paths, every mode and both roles, beside one another and the Python library. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Peer, type Session } from "../dist/node.js";
import { Relay, until } from "./relay.js";

let relay: Relay;

before(async () => {
  relay = await Relay.start();
});
after(() => relay.stop());

const text = (message: Uint8Array | null) => new TextDecoder().decode(message!);

for (const mode of ["p2p", "combined", "central", "auto"] as const) {
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
