/** What the vectors do not show of a session's machine: its time. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SETTINGS } from "../dist/session/liveness.js";
import { SessionMachine } from "../dist/session/machine.js";

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
