/** What a route does with a leg that takes nothing, once its session is over. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { random, type Bytes } from "../dist/bytes.js";
import type { LockedPath } from "../dist/lock.js";
import type { PathHello } from "../dist/messages.js";
import { Route, type Ways } from "../dist/route.js";
import { SETTINGS } from "../dist/session/liveness.js";
import { until } from "./relay.js";

class Stuck {
  readonly buffered = 1 << 30;
  isCut = false;

  async send(): Promise<void> {}

  receive(): Promise<Bytes | null> {
    return new Promise(() => undefined);
  }

  async close(): Promise<void> {}

  cut(): void {
    this.isCut = true;
  }
}

function begun(): [Route, Stuck] {
  const never = () => Promise.reject(new Error("not asked for"));
  const ways: Ways = { byTicket: never, byRequest: never, over: () => undefined };
  const terms = { id: random(16), remote: "", service: "chat", mode: "auto", isCaller: false, metadata: random(0) } as const;
  const route = new Route(terms, ways, SETTINGS);
  const path = new Stuck();
  const hello = {
    type: "path_hello", received: 0, consumed: 0, window: 8 << 20, partial: 0, features: ["session-2"], entries: [], path: 1,
  } as unknown as PathHello;
  route.welcome({ path: path as unknown as LockedPath, ticket: null, admit: () => undefined }, hello, random(0));
  return [route, path];
}

test("it is cut two seconds after", async () => {
  const [route, path] = begun();
  route.lose("enough");
  assert.equal(path.isCut, false);
  await until(() => path.isCut);
  assert.equal(route.path, null);
});

test("or as soon as the peer is closed", () => {
  const [route, path] = begun();
  route.cutStuck();
  assert.equal(path.isCut, false); // Its session goes on.
  route.lose("enough");
  route.cutStuck();
  assert.equal(path.isCut, true);
});
