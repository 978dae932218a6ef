/** What strangers may cause at a callee: legs at once, sessions that end as they begin, bytes before a hello
 * is answered. The relay and the planes are stood in for. */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { concat, random, toHex, type Bytes } from "../dist/bytes.js";
import type { ControlConnection } from "../dist/control.js";
import { PathFailed } from "../dist/errors.js";
import { Identity } from "../dist/identity.js";
import { Incoming, type Host } from "../dist/incoming.js";
import { Listener, type Select } from "../dist/listener.js";
import { locksBody, type LockedPath } from "../dist/lock.js";
import { pack, type Fields } from "../dist/messagepack.js";
import { makeOffer } from "../dist/offer.js";
import { Route, type Leg, type Terms, type Ways } from "../dist/route.js";
import { ABORT, CLOSE, DATA } from "../dist/session/frames.js";
import { SETTINGS } from "../dist/session/liveness.js";
import { Deferred } from "../dist/time.js";

let here: Identity, there: Identity;
before(async () => {
  here = await Identity.generate();
  there = await Identity.generate();
});

/** A path on which `pieces` come, and then nothing until it is over. */
class Path {
  readonly said: Uint8Array[] = [];
  readonly buffered = 0;
  readonly over = new Deferred<null>();
  isAdmitted = false;

  constructor(private readonly pieces: Bytes[]) {}

  async send(data: Uint8Array): Promise<void> {
    this.said.push(data);
  }

  receive(): Promise<Bytes | null> {
    const piece = this.pieces.shift();
    return piece ? Promise.resolve(piece) : this.over.promise;
  }

  async close(): Promise<void> {
    this.over.resolve(null);
  }

  cut(): void {
    this.over.resolve(null);
  }

  get leg(): Leg {
    return { path: this as unknown as LockedPath, ticket: null, admit: () => void (this.isAdmitted = true) };
  }
}

function setUp(open: (ticket: string) => Promise<Leg>, select: Select | null = null) {
  const routes = new Map<string, Route>();
  const ways: Ways = {
    byTicket: () => Promise.reject(new Error("not asked for")), byRequest: () => Promise.reject(new Error("not asked for")),
    over: (route, seconds) => {
      if (!seconds && routes.get(route.key) === route) routes.delete(route.key);
    },
  };
  const listener = new Listener("chat", select, () => undefined);
  const opened: string[] = [];
  const host = {
    identity: here, routes, listeners: new Map([["chat", listener]]),
    legs: { open: (ticket: string) => opened.push(ticket) && open(ticket) },
    create: (terms: Terms) => new Route(terms, ways, { ...SETTINGS, resumeWindow: 0.05 }), add: (route: Route) => void routes.set(route.key, route),
  } as unknown as Host;
  const answers: Fields[] = [];
  const connection = { say: (fields: Fields) => void answers.push(fields) } as unknown as ControlConnection;
  const incoming = new Incoming(host);
  const ask = async (session: Bytes, offer?: Bytes) => incoming.asked(connection, {
    type: "service_request_from", request: 1, guid: there.guid, service: "chat", mode: "auto", session, entries: [],
    timeout: 10, ticket: toHex(random(16)), resume: false,
    offer: offer ?? (await makeOffer(there, here.guid, session, locksBody(random(32)))),
  });
  return { routes, listener, opened, answers, ask };
}

const hello = (session: Bytes, ...behind: Uint8Array[]) => concat(
  pack({ type: "path_hello", session, service: "chat", mode: "auto", features: ["session-2"] }), ...behind,
);

test("legs that are asked for at once are counted before anything is waited for", async () => {
  const enough = new Deferred<void>();
  const { ask, answers, opened } = setUp(async () => {
    await enough.promise;
    throw new PathFailed("no plane");
  });
  const sessions = Array.from({ length: 20 }, () => random(16));
  const offers = await Promise.all(sessions.map((session) => makeOffer(there, here.guid, session, locksBody(random(32)))));
  const asking = sessions.map((session, place) => ask(session, offers[place]));
  enough.resolve();
  await Promise.all(asking);
  assert.equal(opened.length, 8);
  assert.equal(answers.filter(({ code }) => code === "limit_exceeded").length, 12);
  await ask(random(16)); // They are given back.
  assert.equal(opened.length, 9);
});

test("a session that is ended in the record of its hello is forgotten", async () => {
  const session = random(16);
  const path = new Path([hello(session, pack([ABORT, "refused", "never mind"]))]);
  const { ask, routes } = setUp(async () => path.leg);
  await ask(session);
  assert.equal(routes.size, 0);
});

test("one that is closed there is told to the program, with what it brought", async () => {
  const session = random(16);
  const path = new Path([hello(session, pack([DATA, 1, [Uint8Array.of(7)]]), pack([CLOSE, 1]))]);
  const { ask, listener } = setUp(async () => path.leg);
  await ask(session);
  const asked = await listener.accept();
  assert.deepEqual(await asked!.receive(), Uint8Array.of(7));
  assert.equal(await asked!.receive(), null);
  asked!.abort();
});

test("of two legs of one session that come while the program decides, one begins it", async () => {
  const session = random(16);
  const paths: Path[] = [];
  const deciding = new Deferred<boolean>();
  let asked = 0;
  const { ask, routes, listener } = setUp(async () => {
    const path = new Path([hello(session)]);
    paths.push(path);
    return path.leg;
  }, () => {
    // What waits for the program is little: it has not said yes.
    assert.ok(paths.every(({ isAdmitted }) => !isAdmitted));
    if (++asked === 2) deciding.resolve(true);
    return deciding.promise;
  });
  await Promise.all([ask(session), ask(session)]);
  assert.equal(routes.size, 1);
  assert.deepEqual(paths.map(({ isAdmitted }) => isAdmitted).sort(), [false, true]);
  (await listener.accept())!.abort();
  const other = await Promise.race([listener.accept(), Promise.resolve("none")]);
  assert.equal(other, "none");
});

test("more than may come early ends the leg", async () => {
  const session = random(16);
  const path = new Path([hello(session, new Uint8Array(65_537))]);
  const { ask, routes } = setUp(async () => path.leg);
  await ask(session);
  assert.equal(routes.size, 0);
  assert.equal(path.said.length, 0);
});
