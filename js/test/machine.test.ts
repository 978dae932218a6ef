/** What the vectors do not show of a session's machine: its time. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { concat } from "../dist/bytes.js";
import { SETTINGS } from "../dist/session/liveness.js";
import { SessionMachine } from "../dist/session/machine.js";
import type { Early } from "../dist/session/outgoing.js";

/** Two machines on one path at time 0, with nothing on its way. */
function pair(): [SessionMachine, SessionMachine] {
  const sides: [SessionMachine, SessionMachine] = [new SessionMachine(SETTINGS, 0), new SessionMachine(SETTINGS, 0)];
  sides[0].attach(sides[1].numbers, true, 0);
  sides[1].attach(sides[0].numbers, true, 0);
  exchange(sides, 0);
  return sides;
}

function exchange([one, other]: [SessionMachine, SessionMachine], now: number): void {
  for (let moved = true; moved;) {
    const there = one.dataToSend(now);
    other.receive(there, now);
    const back = other.dataToSend(now);
    one.receive(back, now);
    moved = there.length + back.length > 0;
  }
}

const dead = (machine: SessionMachine) => machine.takeEvents().some(({ what }) => what === "path dead");

test("a silent path is pinged, and dead after six seconds", () => {
  const [one] = pair();
  one.handleTimeout(2);
  assert.ok(one.dataToSend(2).length > 0);
  one.handleTimeout(5.9);
  assert.equal(dead(one), false);
  one.handleTimeout(6);
  assert.equal(dead(one), true);
});

test("a tab whose timers were held back for a minute asks first, and goes on where it is answered", () => {
  const sides = pair();
  const [one] = sides;
  one.woke(60);
  one.handleTimeout(60);
  exchange(sides, 60.1);
  one.handleTimeout(62.1);
  assert.equal(dead(one), false);
});

test("and gives the path up where it is not", () => {
  const [one] = pair();
  one.woke(60);
  one.handleTimeout(60);
  assert.equal(dead(one), false);
  one.handleTimeout(62);
  assert.equal(dead(one), true);
});

test("who has slept for longer than the resume window has lost the session at once", () => {
  const [one] = pair();
  one.woke(400);
  one.handleTimeout(400);
  assert.equal(one.state, "lost");
});

test("without a path the window counts from when the path fell silent", () => {
  const [one] = pair();
  one.detach(250);
  one.handleTimeout(305);
  assert.equal(one.state, "open");
  one.handleTimeout(306);
  assert.equal(one.state, "lost");
});

const text = (payload: Uint8Array | undefined) => (payload ? new TextDecoder().decode(payload.subarray(0, 8)) : null);
const bytes = (word: string, size = word.length) => {
  const payload = new Uint8Array(size);
  payload.set(new TextEncoder().encode(word));
  return payload;
};

/** A pair whose path is cut with messages that the other side does not have, and what leaves behind a hello. */
function cutWith(...payloads: Uint8Array<ArrayBuffer>[]): [SessionMachine, SessionMachine, Early] {
  const [one, other] = pair();
  for (const payload of payloads) one.send(payload);
  one.detach(1);
  other.detach(1);
  return [one, other, one.early(1)];
}

test("what stands behind a hello is taken once, and what follows goes on behind it", () => {
  const [one, other, early] = cutWith(bytes("first"), bytes("large", 300_000), bytes("third"));
  const size = early.frames.reduce((sum, frame) => sum + frame.length, 0);
  assert.ok(size > 0 && size <= 65_536);
  const there = other.numbers;
  other.attach(one.numbers, true, 1);
  other.receive(concat(...early.frames), 1);
  one.attach(there, true, 1, early);
  const next = one.dataToSend(1);
  assert.ok(next.length < 65_536);
  other.receive(next, 1);
  for (let time = 1; other.incoming.received < 3 && time < 60; time += 0.1) exchange([one, other], time);
  assert.deepEqual([other.take(), other.take(), other.take(), other.take()].map(text), ["first", "large\0\0\0", "third", null]);
});

test("behind a hello that was not welcomed it does not count as sent, and a later word that it has arrived is true", () => {
  const [one, other] = cutWith(bytes("first"), bytes("second"));
  other.attach(one.numbers, true, 2);
  one.attach(other.numbers, true, 2);
  exchange([one, other], 2);
  assert.deepEqual([other.take(), other.take()].map(text), ["first", "second"]);

  const [here, there, early] = cutWith(bytes("first"));
  there.attach(here.numbers, true, 2);
  there.receive(concat(...early.frames), 2); // Its welcome is lost, and that path with it.
  there.detach(3);
  there.attach(here.numbers, true, 3);
  here.attach(there.numbers, true, 3);
  exchange([here, there], 3);
  assert.equal(here.outgoing.acknowledged, 1);
  assert.deepEqual([there.take(), there.take()].map(text), ["first", null]);
});

test("nothing stands behind a hello while a path lives, nor of a session in the first revision", () => {
  const [one] = pair();
  one.send(bytes("first"));
  assert.equal(one.early(1).frames.length, 0);
  const old = new SessionMachine(SETTINGS, 0), its = new SessionMachine(SETTINGS, 0);
  old.attach(its.numbers, false, 0);
  old.send(bytes("first"));
  old.detach(1);
  assert.equal(old.early(1).frames.length, 0);
});
