/** When a peer comes back to its relay: decisions alone. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Reconnect, type Ended } from "../dist/reconnect.js";

const ENDED: Ended = { stage: "registered", lasted: 60, code: null, reason: "", retryAfter: null, restarting: null };

test("nothing that was said before the challenge is final", () => {
  const machine = new Reconnect();
  for (const code of ["superseded", "not_admitted", "bad_message"] as const) {
    assert.notEqual(machine.after({ ...ENDED, stage: "unproven", code }, false, 0.5), null);
  }
});

test("a newer program, and an operator that says no without a time, are final", () => {
  assert.equal(new Reconnect().after({ ...ENDED, code: "superseded" }, true, 0.5), null);
  assert.equal(new Reconnect().after({ ...ENDED, stage: "handshake", code: "not_admitted" }, true, 0.5), null);
  assert.notEqual(new Reconnect().after({ ...ENDED, stage: "handshake", code: "not_admitted", retryAfter: 5 }, true, 0.5), null);
});

test("a fault of one's own is final for who was never registered", () => {
  const machine = new Reconnect();
  assert.equal(machine.after({ ...ENDED, stage: "handshake", code: "bad_signature" }, false, 0.5), null);
  const other = new Reconnect();
  other.after(ENDED, false, 0.5);
  assert.notEqual(other.after({ ...ENDED, stage: "handshake", code: "bad_signature" }, false, 0.5), null);
});

test("pauses grow, within a bound, and are short while somebody waits", () => {
  const machine = new Reconnect(), urgent = new Reconnect();
  const failed: Ended = { ...ENDED, stage: "unproven", lasted: 0 };
  const pauses = Array.from({ length: 12 }, () => machine.after(failed, false, 1)!.seconds);
  assert.deepEqual(pauses.slice(0, 4), [0.5, 1, 2, 4]);
  assert.equal(Math.max(...pauses), 30);
  for (let one = 0; one < 12; one++) assert.ok(urgent.after(failed, true, 1)!.seconds <= 1);
});

test("what was told holds, within a bound that depends on who has said it", () => {
  const told = (stage: Ended["stage"], retryAfter: number) => new Reconnect().after({ ...ENDED, stage, retryAfter }, true, 0)!;
  assert.deepEqual(told("unproven", 10_000), { seconds: 30, atLeast: 30 });
  assert.deepEqual(told("registered", 10_000), { seconds: 600, atLeast: 600 });
  const restarting = new Reconnect().after({ ...ENDED, restarting: { delay: 0.5, spread: 1 } }, true, 0.5)!;
  assert.deepEqual(restarting, { seconds: 1, atLeast: 1 });
});

test("a relay that sends a peer away again and again is asked more and more seldom", () => {
  const machine = new Reconnect();
  const pauses = Array.from({ length: 9 }, () => machine.after({ ...ENDED, lasted: 0.1 }, false, 0)!.seconds);
  assert.deepEqual(pauses.slice(1, 5), [0.5, 1, 2, 4]);
  assert.equal(Math.max(...pauses), 15);
});

test("a number that is behind another program's is mended at once, and once only", () => {
  const machine = new Reconnect();
  const stale: Ended = { ...ENDED, stage: "handshake", code: "stale_sequence", lasted: 0 };
  assert.ok(machine.after(stale, false, 1)!.seconds < 0.1);
  assert.ok(machine.after(stale, false, 1)!.seconds >= 0.5);
});
