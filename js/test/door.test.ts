/** What is dialed by another's word, how often, and what a certificate is: without a socket. */

import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { Identity } from "../dist/node.js";
import { canonical, isNear, isPublic, networkOf, unwrapped } from "../dist/node/addresses.js";
import { certificateOf } from "../dist/node/certificate.js";
import { Budgets, refusal, type Dial, type Here } from "../dist/node/door.js";
import { openEntry, signEntry, verifier } from "../dist/node/entries.js";
import { ownEndpoints } from "../dist/node/host.js";
import { keyOf } from "../dist/identity.js";
import type { Word } from "../dist/path.js";

test("addresses in one form alone, and what they hold", () => {
  for (const [text, wanted] of [
    ["127.0.0.1", "127.0.0.1"], ["::FFFF:192.0.2.1", "192.0.2.1"], ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"], ["::1", "::1"], ["01.2.3.4", null], ["host", null], ["1.2.3", null], ["", null],
  ] as const) assert.equal(canonical(text), wanted, text);
  for (const [host, wanted] of [
    ["64:ff9b::a00:1", "10.0.0.1"], ["2002:7f00:1::", null], ["2001:0:1::1", null], ["64:ff9b:1::1", null],
    ["fe80::200:5efe:7f00:1", null], ["2001:db8::1", "2001:db8::1"], ["::1", "::1"], ["::7f00:1", "127.0.0.1"],
  ] as const) assert.equal(unwrapped(host), wanted, host);
  assert.deepEqual(["192.0.2.1", "10.1.1.1", "100.64.0.1", "fd00::1", "2001:db8::1", "::1", "169.254.1.1"].map(isPublic), [true, false, false, false, true, false, false]);
  assert.equal(isNear("192.168.1.9", { host: "192.168.1.1", prefix: 24 }), true);
  assert.equal(isNear("192.168.2.9", { host: "192.168.1.1", prefix: 24 }), false);
  assert.equal(isNear("fd00::9", { host: "192.168.1.1", prefix: 24 }), false);
  assert.equal(networkOf("192.0.2.9"), "192.0.2");
  assert.equal(networkOf("2001:db8:1:2::3"), "2001:db8:1");
});

test("whom a peer dials by another's word", () => {
  const outside: Here = {
    interfaces: [{ host: "192.168.1.5", prefix: 24 }], relay: { host: "192.0.2.1", port: 8765 }, observed: "198.51.100.1", listening: 4000,
  };
  const local: Here = { ...outside, relay: { host: "127.0.0.1", port: 8765 }, observed: "127.0.0.1" };
  const said = (host: string, word: Word, here: Here, disclosed: string[] = word === "relay" ? [host] : [], port = 5000, pathHost: string | null = null, dial: Dial = "careful") =>
    refusal({ host, port }, word, { disclosed: new Set(disclosed), pathHost }, here, dial);
  assert.equal(said("203.0.113.5", "told", outside), null);
  assert.equal(said("203.0.113.5", "relay", outside), null);
  assert.match(said("203.0.113.5", "told", outside, [], 5000, null, "proven")!, /not proven/);
  // This very host, and its networks.
  assert.match(said("127.0.0.1", "told", outside)!, /this host itself/);
  assert.match(said("127.0.0.1", "relay", outside)!, /this host itself/);
  assert.equal(said("127.0.0.1", "relay", local), null);
  assert.match(said("127.0.0.1", "told", local)!, /this host itself/);
  assert.match(said("::ffff:7f00:1", "told", outside, [], 5000, null)!, /this host|only this network|nobody/);
  assert.match(said("127.0.0.1", "relay", local, ["127.0.0.1"], 8765)!, /relay/);
  assert.match(said("192.168.1.5", "relay", local, ["192.168.1.5"], 4000)!, /itself/);
  assert.match(said("192.168.1.9", "told", outside)!, /private/);
  assert.equal(said("192.168.1.9", "told", outside, [], 5000, "192.168.1.7"), null);
  assert.equal(said("192.168.1.9", "relay", outside), null); // Passed on between two behind one address.
  assert.match(said("10.1.1.1", "relay", outside)!, /private/); // Not where this host has no way into it.
  assert.match(said("169.254.1.1", "relay", outside)!, /link-local/);
  assert.match(said("224.0.0.1", "relay", outside, [], 5000, null, "open")!, /nobody/);
  assert.match(said("203.0.113.5", "told", outside, [], 22)!, /well-known/);
  assert.equal(said("203.0.113.5", "relay", outside, ["203.0.113.5"], 443), null);
  assert.equal(said("10.1.1.1", "told", outside, [], 22, null, "open"), null);
});

test("how often, and who is left alone", () => {
  const budgets = new Budgets();
  const at = (port: number) => ({ host: "203.0.113.5", port });
  const told = [1, 2, 3, 4, 5].map((port) => budgets.take(at(port), "one", "told", false, 100));
  assert.deepEqual(told.map((one) => one === null), [true, true, true, true, false]);
  assert.equal(budgets.take(at(5), "one", "told", false, 161), null); // One more a minute.
  budgets.meet(at(5), "one", "told", false, 162);
  assert.equal(budgets.take(at(5), "one", "told", false, 163), null); // Met: as often as may be.
  assert.equal(budgets.take(at(5), "one", "told", false, 164), null);
  assert.equal(budgets.take(at(6), "one", "told", false, 164), null); // And its cost was given back.
  const other = new Budgets();
  for (const time of [0, 1]) {
    assert.equal(other.take(at(1), "one", "relay", true, time), null);
    other.fail(at(1), "one", "relay", time);
  }
  assert.match(other.take(at(1), "one", "relay", true, 2)!, /left alone/);
  assert.equal(other.take(at(1), "two", "relay", true, 2), null);
  assert.equal(other.take(at(1), "one", "relay", true, 7), null);
  other.moved();
  // Nobody can use up what all have by many names.
  const all = new Budgets();
  let taken = 0;
  for (let number = 0; number < 200; number++) {
    if (all.take({ host: `203.0.${number}.5`, port: 5000 }, `peer ${number}`, "told", false, 0) === null) taken++;
  }
  assert.equal(taken, 64);
});

test("a certificate is what X.509 says, with this key and signature, and its entries are signed", async () => {
  const seed = new Uint8Array(32).fill(9);
  const identity = await Identity.fromSeed(seed);
  const key = createPrivateKey({ key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]), format: "der", type: "pkcs8" });
  const certificate = new X509Certificate(Buffer.from(certificateOf(key, identity.publicKey, identity.guid)));
  assert.equal(certificate.subject, `CN=${identity.guid}`);
  assert.equal(certificate.verify(certificate.publicKey), true);
  assert.deepEqual(certificate.publicKey.export({ format: "jwk" })["x"], Buffer.from(identity.publicKey).toString("base64url"));
  const signed = signEntry(identity, 7, "chat", { host: "192.0.2.1", port: 4000, phase: "preferred", provenance: "interface" });
  const own = keyOf(identity.guid);
  const { host, port, seq, phase } = openEntry(own, verifier(own), signed)!;
  assert.deepEqual([host, port, seq, phase], ["192.0.2.1", 4000, 7, "preferred"]);
  assert.equal(openEntry(own, verifier(own), { ...signed, body: signed.body.map((byte, place) => byte ^ (place === 3 ? 1 : 0)) as typeof signed.body }), null);
  const stranger = keyOf((await Identity.generate()).guid);
  assert.equal(openEntry(stranger, verifier(stranger), signed), null);
  const mapped = signEntry(identity, 7, "chat", { host: "::ffff:192.0.2.1", port: 4000, phase: "new", provenance: "interface" });
  assert.equal(openEntry(own, verifier(own), mapped), null);
});

test("what of a host is told", () => {
  const interfaces = [{ host: "127.0.0.1", prefix: 8 }, { host: "fe80::1", prefix: 64 }, { host: "192.168.1.5", prefix: 24 }, { host: "10.0.0.5", prefix: 8 }];
  const told = ownEndpoints(interfaces, 4000, "10.0.0.5", "198.51.100.1", [{ host: "203.0.113.5", port: 443 }]);
  assert.deepEqual(told.map(({ host, port, phase, provenance }) => `${host}:${port} ${phase} ${provenance}`), [
    "203.0.113.5:443 preferred configured", "10.0.0.5:4000 preferred interface", "192.168.1.5:4000 new interface",
    "198.51.100.1:4000 preferred observed",
  ]);
});
