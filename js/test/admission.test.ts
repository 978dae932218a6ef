/** A relay that does not take everybody, and one that changes its key: real ones, and the vectors of both. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect, promisify } from "node:util";
import { fromHex, toHex, type Bytes } from "../dist/bytes.js";
import { Identity, keyOf } from "../dist/identity.js";
import { Peer, type Session } from "../dist/index.js";
import { Invitation } from "../dist/invitation.js";
import { Pin } from "../dist/pin.js";
import { PYTHON, Relay, Wire } from "./relay.js";
import { vectors } from "./vectors.js";

/** A folder for a relay's state, and its configuration in it. */
async function folder<T>(settings: string, use: (state: string, config: string) => Promise<T>): Promise<T> {
  const state = await mkdtemp(join(tmpdir(), "roam-relay-"));
  try {
    const config = join(state, "relay.toml");
    await writeFile(config, settings, { mode: 0o600 });
    return await use(join(state, "state"), config);
  } finally {
    await rm(state, { recursive: true, force: true });
  }
}

async function command(...words: string[]): Promise<{ [name: string]: string }> {
  const { stdout } = await promisify(execFile)(PYTHON, ["-m", "relay", ...words, "--json"]);
  return JSON.parse(stdout) as { [name: string]: string };
}

test("what a token shows to a relay is that of the vectors, and nothing shows the token", async () => {
  const { token, relay, relay_nonce, peer, presented } = vectors["invitation"];
  for (const text of [token, `\n  ${token.slice(0, 70)}\r\n\t${token.slice(70)} `]) {
    const invitation = await Invitation.read(text);
    const shown = await invitation.present(keyOf(relay), fromHex(relay_nonce), keyOf(peer));
    assert.equal(toHex(shown), presented);
    assert.ok(!inspect(invitation, { depth: 9, showHidden: true }).includes(token.slice(8, 30)));
    assert.equal(JSON.stringify(invitation), "{}");
  }
});

test("what is no token, or not all of one, is a wrong argument", async () => {
  const { token } = vectors["invitation"];
  const relay = "http://127.0.0.1:9";
  for (const [text, why] of [
    ["", /begins with/], ["rr2-abc", /begins with/], ["rr1-", /not whole/], [token.slice(0, -1), /not whole/],
    [token.slice(0, 40), /not whole/], [`${token}A`, /not whole/], [token.replace("Y", "Z"), /not whole/],
    [`${token}=`, /character/], [token.replace("4", "é"), /character/], ["rr1-" + "A".repeat(3000), /begins with/],
    [7 as unknown as string, /text/],
  ] as const) {
    await assert.rejects(Peer.open({ relay, invitation: text }), (error: Error) => error instanceof TypeError && why.test(error.message), text);
  }
});

test("what is no GUID is no relay to expect", async () => {
  await assert.rejects(Peer.open({ relay: "http://127.0.0.1:9", relayGuid: "relay.example" }), { name: "IdentityError" });
});

test("where a chain of keys leads is that of the vectors, and what does not hold is passed over", async () => {
  const { relay, next, links } = vectors["succession"];
  const chain = links.map(fromHex) as Bytes[];
  const after = async (pin: Pin, ...given: Bytes[]) => (await pin.learn(given), pin.guid);
  assert.equal(await after(new Pin(relay), ...chain), next[1]);
  assert.equal(await after(new Pin(relay), chain[0]!), next[0]);
  assert.equal(await after(new Pin(next[0]), chain[1]!), next[1]);
  assert.equal(await after(new Pin(null), ...chain), null);
  assert.equal(await after(new Pin(relay)), relay);
  for (let at = 0; at < chain[0]!.length; at += 31) {
    const wrong = chain[0]!.slice();
    wrong[at]! ^= 1;
    assert.equal(await after(new Pin(relay), wrong), relay);
    assert.equal(await after(new Pin(relay), chain[0]!, wrong), relay, "as a whole, or not at all");
  }
  assert.equal(await after(new Pin(relay), chain[1]!), relay);
  assert.equal(await after(new Pin(relay), chain[0]!.slice(1)), relay);
  assert.equal(await after(new Pin(relay), ...Array<Bytes>(9).fill(chain[0]!)), relay);
});

test("a chain that comes back to a key that was left is passed over", async () => {
  const [one, other] = [await Identity.generate(), await Identity.generate()];
  const link = async (old: Identity, key: Identity) => {
    const both = [old.publicKey, key.publicKey];
    const signatures = [await old.sign("succession", ...both), await key.sign("succeeds", ...both)];
    return Uint8Array.from([...key.publicKey, ...signatures[0]!, ...signatures[1]!]);
  };
  const pin = new Pin(one.guid);
  await pin.learn([await link(one, other)]);
  assert.equal(pin.guid, other.guid);
  await pin.learn([await link(other, one)]);
  assert.equal(pin.guid, other.guid);
  const again = new Pin(one.guid);
  await again.learn([await link(one, other), await link(other, one)]);
  assert.equal(again.guid, one.guid);
});

/** What a session says comes back. */
async function echoes(session: Session, message: string): Promise<void> {
  await session.send(message);
  assert.equal(Buffer.from((await session.receive())!).toString(), message);
}

test("a relay that asks for an invitation, and changes its key", async () => {
  await folder('admission = "invited"\n', async (state, config) => {
    const flags = ["--config", config, "--state", state];
    let relay = await Relay.start(...flags);
    const wire = await Wire.to(relay.port);
    const restarted = async (...words: string[]) => {
      await relay.stop("SIGKILL");
      const told = await command("rotate", ...flags, ...words);
      relay = await Relay.start(...flags);
      wire.target = relay.port;
      return told;
    };
    try {
      const identities = [await Identity.generate(), await Identity.generate()] as const;
      const refused = (error: { name: string; code: string }) => error.name === "RelayUnavailable" && error.code === "not_admitted";
      await assert.rejects(Peer.open({ relay: relay.url, wait: true }), refused);
      const { token: invitation } = await command("invite", ...flags, "--uses", "2");
      for (const identity of identities) {
        const peer = await Peer.open({ relay: relay.url, invitation: invitation!, identity });
        assert.deepEqual([peer.status.state, peer.relayGuid], ["online", null]);
        await peer.close();
      }
      await assert.rejects(Peer.open({ relay: relay.url, invitation: invitation! }), refused);

      // Whom it has admitted it knows by the key. Who expects the old key follows it to the new one.
      const { guid, former } = await restarted();
      const options = { relay: wire.url, relayGuid: former!, identity: identities[0] };
      const peer = await Peer.open(options), other = await Peer.open({ relay: wire.url, identity: identities[1] });
      assert.equal(peer.relayGuid, guid);
      void (async () => {
        for await (const session of peer.listen("chat")) for await (const message of session) await session.send(message);
      })().catch(() => undefined); // The session is ended below.
      const session = await other.connect(peer.guid, "chat", { wait: true });
      await echoes(session, "under the old key here, under the new one there");
      wire.cut();
      await echoes(session, "on the next path");

      // The old key is served no more: who has learned the new one does without.
      await restarted("--end");
      await echoes(session, "under the new key alone");
      await assert.rejects(Peer.open({ ...options, identity: await Identity.generate() }), /was expected/);
      session.abort("the test is over");
      await Promise.all([peer.close(), other.close()]);
    } finally {
      wire.close();
      await relay.stop();
    }
  });
});
