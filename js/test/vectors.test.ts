/** The vectors of docs/protocol-vectors.json that have to do with this peer. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { base64url, concat, fromBase64url, fromHex, toHex, utf8, type Bytes } from "../dist/bytes.js";
import { ProtocolViolation } from "../dist/errors.js";
import { guidOf, Identity, isGuid, keyOf, verify } from "../dist/identity.js";
import { isNewer, readControl, readHead } from "../dist/messages.js";
import { pack, Reader, unpack, type Value } from "../dist/messagepack.js";
import { SETTINGS } from "../dist/session/liveness.js";
import { SessionMachine } from "../dist/session/machine.js";
import { answerOffer, makeOffer, openAnswer, openOffer } from "../dist/offer.js";
import { bytesOf, valueOf, vectors, type Vector } from "./vectors.js";

const NEW = { received: 0, consumed: 0, partial: 0, window: SETTINGS.window };

/** The code that reading throws; null where it does not. */
function codeOf(read: () => unknown): string | null {
  try {
    read();
    return null;
  } catch (error) {
    if (!(error instanceof ProtocolViolation)) throw error;
    return error.code;
  }
}

test("identities", async () => {
  for (const { seed, public_key, guid } of vectors["identities"]) {
    const identity = await Identity.fromSeed(fromHex(seed));
    assert.equal(toHex(identity.publicKey), public_key);
    assert.equal(identity.guid, guid);
    assert.equal(guidOf(fromHex(public_key)), guid);
    assert.equal(toHex(keyOf(guid)), public_key);
  }
  for (const { text } of vectors["refused_guids"]) assert.equal(isGuid(text), false, text);
});

test("signatures", async () => {
  const parts: { [context: string]: string[] } = {
    challenge: ["peer_key", "peer_nonce", "relay_nonce"],
    register: ["relay_key", "relay_nonce", "peer_key", "instance", "location"],
    plane: ["relay_key", "ticket"],
  };
  const seeds = new Map(vectors["identities"].map((one: Vector) => [one["guid"], one["seed"]]));
  for (const [name, order] of Object.entries(parts)) {
    const vector = vectors["signatures"][name];
    const bytes = order.map((part) => {
      const text = vector.parts[part];
      return part === "ticket" && text.length === 32 ? utf8(text) : fromHex(text);
    });
    const identity = await Identity.fromSeed(fromHex(seeds.get(vector.signer) as string));
    assert.equal(toHex(await identity.sign(name, ...bytes)), vector.signature, name);
    assert.ok(await verify(keyOf(vector.signer), fromHex(vector.signature), name, ...bytes));
    assert.ok(!(await verify(keyOf(vector.signer), fromHex(vector.signature), "other", ...bytes)));
  }
});

test("offers", async () => {
  const { caller, callee, session, request, answer } = vectors["offers"];
  const seeds = new Map(vectors["identities"].map((one: Vector) => [one["guid"], one["seed"]]));
  const asks = await Identity.fromSeed(fromHex(seeds.get(caller) as string));
  const answers = await Identity.fromSeed(fromHex(seeds.get(callee) as string));
  const id = fromHex(session), asked = fromHex(request.offer), said = fromHex(answer.offer);
  assert.equal(toHex(await makeOffer(asks, callee, id, fromHex(request.body))), request.offer);
  assert.equal(toHex(await answerOffer(answers, caller, id, asked, fromHex(answer.body))), answer.offer);
  assert.equal(toHex((await openOffer(asked, caller, callee, id))!), request.body);
  assert.equal(toHex((await openAnswer(said, callee, caller, id, asked))!), answer.body);
  assert.equal(await openOffer(asked, callee, caller, id), null);
  assert.equal(await openAnswer(asked, callee, caller, id, asked), null);
});

test("messages", () => {
  for (const { type, fields, bytes } of vectors["messages"]) {
    assert.equal(toHex(pack(valueOf(fields))), bytes, type);
    // A later encoder may have ordered keys otherwise; here what is read is written as it was.
    assert.equal(toHex(pack(unpack(fromHex(bytes)))), bytes, type);
    if (/^path_/.test(type)) readHead(unpack(fromHex(bytes)));
    else readControl(unpack(fromHex(bytes)));
  }
  for (const { what, bytes, means } of vectors["tolerated_messages"]) {
    const reader = new Reader();
    reader.feed(fromHex(bytes));
    const value = reader.next() as Value;
    assert.deepEqual(readControl(value), readControl(unpack(fromHex(means))), what);
  }
  for (const { fields, bytes } of [vectors["location_record"]]) assert.equal(toHex(pack(valueOf(fields))), bytes);
  for (const { frame, value, bytes } of [...vectors["session_frames"]]) {
    assert.equal(toHex(pack(valueOf(value))), bytes, frame);
  }
});

test("refusals", () => {
  // Those of messages that only a relay receives are its own.
  const own = vectors["refusals"].filter(({ bytes }: Vector) => !/a87265676973746572|a6757064617465|a568656c6c6f/.test(bytes));
  assert.ok(own.length >= 11);
  for (const one of own) {
    const reader = new Reader();
    reader.feed(bytesOf(one));
    assert.equal(codeOf(() => readControl(reader.next() as Value)), one.code, one.what);
  }
});

test("refused frames", () => {
  for (const one of vectors["refused_frames"]) {
    for (const revision of one.revisions) {
      const machine = new SessionMachine(SETTINGS, 0);
      machine.attach(NEW, revision === 2, 0);
      machine.dataToSend(0);
      assert.equal(codeOf(() => machine.receive(bytesOf(one), 0)), one.code, `${one.what}, revision ${revision}`);
      assert.equal(machine.state, "lost");
      const said = new Reader();
      said.feed(machine.dataToSend(0));
      const abort = [...said.values()].find((frame) => (frame as Value[])[0] === 6) as Value[];
      assert.equal(abort[1], one.code);
    }
  }
});

test("path numbers", () => {
  const rank = ({ path, dialed_by }: Vector) => ({ path: path as number, dialedByCaller: dialed_by === "caller" });
  for (const { taken, offered, newer } of vectors["path_numbers"]) assert.equal(isNewer(rank(offered), rank(taken)), newer);
});

test("windows", () => {
  for (const { windows, lengths, weight, taken, consumed, may_begin } of vectors["windows"]) {
    const sides = windows.map((window: number) => new SessionMachine({ ...SETTINGS, window }, 0));
    const [one, other] = sides as [SessionMachine, SessionMachine];
    one.attach(other.numbers, true, 0);
    other.attach(one.numbers, true, 0);
    for (const length of lengths) one.send(new Uint8Array(length));
    const exchange = () => {
      for (let moved = true, now = 0; moved; now += 0.01) {
        const there = one.dataToSend(now), back = (other.receive(there, now), other.dataToSend(now));
        one.receive(back, now);
        moved = there.length + back.length > 0;
      }
    };
    exchange();
    for (let count = 0; count < taken; count++) other.take();
    exchange();
    assert.equal(one.outgoing.weight, weight);
    assert.equal(other.incoming.consumed, consumed);
    if (taken === 0 || other.incoming.consumed - 0 >= Math.min(...windows) / 8) assert.equal(one.hasRoom, may_begin);
  }
});

test("session transcripts", () => {
  for (const { revision, window, steps } of vectors["session_transcripts"]) {
    const sides: { [name: string]: SessionMachine } = {};
    for (const name of ["caller", "callee"]) sides[name] = new SessionMachine({ ...SETTINGS, window }, 0);
    const other = (name: string) => sides[name === "caller" ? "callee" : "caller"]!;
    let now = 0;
    for (const step of steps) {
      now += 0.01;
      const side = sides[step.side ?? step.from]!;
      if (step.head) {
        const said = readHead(unpack(fromHex(step.bytes)));
        assert.ok(said.type !== "path_reject");
        const { received, consumed, partial, window: its } = said;
        assert.deepEqual(
          { received, consumed, partial, window: its }, { ...side.numbers, partial: revision === 2 ? side.numbers.partial : 0 },
        );
        const there = other(step.from);
        there.detach(now);
        there.attach(said, said.features.includes("session-2"), now);
      } else if (step.does === "send") side.send(fromHex(step.message));
      else if (step.does === "take") assert.equal(toHex(side.take()!), step.message);
      else if (step.does === "close") side.close(now);
      else if (step.does === "finish") side.finish(now);
      else if (step.from) {
        // Another encoder may put its frames together otherwise: what the file says is what is sent.
        side.dataToSend(now);
        if (step.arrives) other(step.from).receive(fromHex(step.bytes), now);
      } else if (step.now) {
        for (const [name, { state, received, consumed, acknowledged }] of Object.entries<Vector>(step.now)) {
          const { incoming, outgoing } = sides[name]!;
          const is = { state: sides[name]!.state, received: incoming.received, consumed: incoming.consumed, acknowledged: outgoing.acknowledged };
          assert.deepEqual(is, { state, received, consumed, acknowledged });
        }
      } else if (!step.cut) assert.fail(JSON.stringify(step).slice(0, 300));
    }
    for (const machine of Object.values(sides)) assert.equal(machine.state, "closed");
  }
});

test("the head of a path", () => {
  for (const one of vectors["refused_path_hellos"]) {
    if (one.code !== null) readHead(unpack(bytesOf(one)));
    else {
      const reader = new Reader();
      reader.feed(bytesOf(one));
      const read = () => {
        if (readHead(reader.next() as Value).type !== "path_hello") throw new ProtocolViolation("no hello");
      };
      assert.notEqual(codeOf(read), null, one.what);
    }
  }
});

test("a plane request", async () => {
  const { relay, bearer, ticket, request } = vectors["plane_request"];
  const seed = vectors["identities"].find((one: Vector) => one["guid"] === bearer).seed;
  const identity = await Identity.fromSeed(fromHex(seed));
  const { planePath } = await import("../dist/legs.js");
  const path = await planePath(identity, keyOf(relay), ticket);
  assert.ok(request.startsWith(`GET ${path} HTTP/1.1\r\n`), path);
  assert.ok(concat(utf8(path)).length < 400);
});

test("a control connection, word by word", async () => {
  const steps = (vectors["control_transcript"] as Vector[]).filter(({ bytes }) => bytes);
  const said = (type: string) => unpack(fromHex(steps.find((step) => step["type"] === type)!["bytes"])) as { [name: string]: Value };
  const hello = said("hello"), register = said("register");
  const seed = vectors["identities"].find((one: Vector) => one["guid"] === hello["guid"]).seed;
  const identity = await Identity.fromSeed(fromHex(seed));
  const challenge = readControl(said("challenge"));
  assert.ok(challenge?.type === "challenge");
  const relay = keyOf(challenge.guid);
  assert.ok(await verify(relay, challenge.signature, "challenge", identity.publicKey, hello["nonce"] as Bytes, challenge.nonce));
  const parts = [relay, challenge.nonce, identity.publicKey, hello["instance"] as Bytes, register["location"] as Bytes];
  assert.equal(toHex(await identity.sign("register", ...parts)), toHex(register["signature"] as Bytes));
  // What the relay says, as this peer understands it.
  const heard = steps.filter((step) => step["from"] === "relay").map((step) => readControl(unpack(fromHex(step["bytes"]))));
  assert.deepEqual(heard.map((one) => one?.type), ["challenge", "registered", "pong", "error", "error", "registered"]);
  const errors = heard.filter((one) => one?.type === "error").map(({ code, seq }) => ({ code, seq }));
  assert.deepEqual(errors, [{ code: "unknown_type", seq: null }, { code: "stale_sequence", seq: (unpack(register["location"] as Bytes) as Vector)["seq"] }]);
  const confirmed = heard.filter((one) => one?.type === "registered").map(({ seq }) => seq);
  assert.deepEqual(confirmed, [errors[1]!.seq, errors[1]!.seq! + 1]);
  // What it writes itself comes out as it stands there.
  for (const step of steps.filter((one) => one["from"] === "peer")) assert.equal(toHex(pack(unpack(fromHex(step["bytes"])))), step["bytes"]);
});

test("what a request for a leg brings early", () => {
  const { early, request } = vectors["plane_request"];
  const bytes = fromHex(early);
  assert.ok(request.includes(`\r\nRoam-Relay-Early: ${Buffer.from(bytes).toString("base64")}\r\n`));
  // A page has no headers: it stands in the query (R18.27).
  assert.equal(base64url(bytes), Buffer.from(bytes).toString("base64url"));
  assert.deepEqual(fromBase64url(base64url(bytes)), bytes);
});

/** Groups of the file that have to do with what this package does not do. */
const OF_OTHERS: { readonly [group: string]: string } = {
  about: "words",
  endpoint_entries: "direct paths", refused_entries: "direct paths", entry_of_a_later_version: "direct paths",
  certificates: "TLS", first_flights: "what stands before TLS", observations: "what a NAT shows",
  sealed: "DNS keys and letters", prekeys: "letters", letters: "letters",
  conversation_frames: "conversations", refused_conversation_frames: "conversations",
  passed_over_conversation_frames: "conversations", conversation_lines: "conversations",
  conversation_letters: "conversations", refused_conversation_letters: "conversations", conversation_parts: "conversations",
  refused_hellos: "what a relay receives",
};

test("every group of the file is read here, or is of what this package does not do", () => {
  const folder = new URL("../test/", import.meta.url);
  const sources = readdirSync(folder).filter((name) => name.endsWith(".test.ts")).map((name) => readFileSync(new URL(name, folder), "utf8")).join();
  const read = new Set([...sources.matchAll(/vectors\["(\w+)"\]/g)].map(([, group]) => group));
  const missing = Object.keys(vectors).filter((group) => !read.has(group) && !Object.hasOwn(OF_OTHERS, group));
  assert.deepEqual(missing, []);
});
