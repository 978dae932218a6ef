/** The lock of a path over a plane: its vectors, and what an attacker between the two can do. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, fromHex, toHex, type Bytes } from "../dist/bytes.js";
import { ProtocolViolation, PathFailed } from "../dist/errors.js";
import { guidOf, Identity, keyOf } from "../dist/identity.js";
import { begin, chosenBy, lock, LockedPath, lockBody, locksBody, prologue, readLocks, type LockSide } from "../dist/lock.js";
import { Cipher, ephemeralOf, type Ephemeral } from "../dist/noise.js";
import { pack } from "../dist/messagepack.js";
import type { Stream } from "../dist/stream.js";
import { vectors, type Vector } from "./vectors.js";

/** One end of a stream within this program; `change` is what somebody on the way makes of it. */
class Memory implements Stream {
  other: Memory | null = null;
  isOpen = true;
  readonly buffered = 0;
  written: Bytes[] = [];
  private arrived: Bytes[] = [];
  private waiting: ((data: Bytes | null) => void) | null = null;
  change = (data: Bytes): Bytes[] => [data];

  static pair(): [Memory, Memory] {
    const one = new Memory(), other = new Memory();
    one.other = other;
    other.other = one;
    return [one, other];
  }
  async read(): Promise<Bytes | null> {
    if (this.arrived.length) return concat(...this.arrived.splice(0));
    if (!this.isOpen) return null;
    return new Promise((done) => (this.waiting = done));
  }
  write(data: Uint8Array): void {
    const copy = concat(data);
    this.written.push(copy);
    for (const one of this.change(copy)) this.other!.hear(one);
  }
  hear(data: Bytes | null): void {
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting) waiting(data);
    else if (data) this.arrived.push(data);
  }
  close(): void {
    for (const end of [this, this.other!]) {
      end.isOpen = false;
      end.hear(null);
    }
  }
}

async function sides(vector: Vector = vectors["locks"][0]): Promise<[LockSide, LockSide]> {
  const seeds = new Map(vectors["identities"].map((one: Vector) => [one["guid"], one["seed"]]));
  const of = (guid: string) => Identity.fromSeed(fromHex(seeds.get(guid) as string));
  const { caller, callee, session, relay, offered } = vector as any;
  const shared = { session: fromHex(session), agreed: { relay: fromHex(relay), offered, lock: "noise" as const } };
  return [
    { ...shared, identity: await of(caller), remote: keyOf(callee), isCaller: true },
    { ...shared, identity: await of(callee), remote: keyOf(caller), isCaller: false },
  ];
}

async function locked(stream: Stream, side: LockSide, own?: Ephemeral): Promise<LockedPath> {
  return lock(stream, side, await begin(side, own));
}

async function both(vector?: Vector): Promise<{ paths: [LockedPath, LockedPath]; ends: [Memory, Memory] }> {
  const [asking, asked] = await sides(vector);
  const ends = Memory.pair();
  const fixed = vector
    ? [await ephemeralOf(fromHex(vector["caller_ephemeral"])), await ephemeralOf(fromHex(vector["callee_ephemeral"]))]
    : [];
  const paths = await Promise.all([locked(ends[0], asking, fixed[0]), locked(ends[1], asked, fixed[1])]);
  return { paths: paths as [LockedPath, LockedPath], ends };
}

test("what begins otherwise than the lock that was agreed on is ended at its first bytes", async () => {
  const [, asked] = await sides();
  for (const { what, bytes } of vectors["first_bytes"]) {
    if (bytes.startsWith("52520102")) continue; // That is this lock.
    const [one, other] = Memory.pair();
    const locking = locked(other, asked);
    one.write(fromHex(bytes));
    if (bytes.length < 8) one.close();
    await assert.rejects(locking, (error) => error instanceof ProtocolViolation || (bytes.length < 8 && error instanceof PathFailed), what);
  }
});

test("vectors of the lock", async () => {
  for (const vector of vectors["locks"]) {
    const [asking, asked] = await sides(vector);
    assert.equal(toHex(prologue(asking)), vector.prologue);
    assert.equal(toHex(prologue(asked)), vector.prologue);
    const { paths, ends } = await both(vector);
    assert.equal(toHex(ends[0].written[0]!), vector.first);
    assert.equal(toHex(ends[1].written[0]!), vector.second);
    assert.equal(toHex(ends[1].written[1]!), vector.callee_proof);
    assert.equal(toHex(ends[0].written[1]!), vector.caller_proof);
    const closing: Promise<void>[] = [];
    for (const { by, plain } of vector.records) {
      const at = by === "caller" ? 0 : 1;
      if (!plain) {
        closing.push(paths[at]!.close());
        continue;
      }
      await paths[at]!.send(fromHex(plain));
      assert.equal(toHex((await paths[1 - at]!.receive())!), plain);
    }
    await Promise.all(closing);
    for (const { by, bytes } of vector.records) {
      assert.ok(ends[by === "caller" ? 0 : 1]!.written.some((one) => toHex(one) === bytes), by);
    }
  }
});

test("a key is replaced as its vector says", async () => {
  for (const { key, next } of vectors["lock_keys"]) {
    const [renewed, following] = [await Cipher.of(fromHex(key)), await Cipher.of(fromHex(next))];
    await renewed.renew();
    assert.equal(toHex(await renewed.seal(fromHex("6f6e65"))), toHex(await following.seal(fromHex("6f6e65"))));
  }
});

test("which lock is chosen", () => {
  const relay = new Uint8Array(32);
  for (const { offered, taken, chosen } of vectors["chosen_locks"]) {
    const read = readLocks(offered === null ? null : pack({ locks: offered, relay }), taken);
    assert.equal(read?.lock ?? null, chosen);
  }
  assert.deepEqual(readLocks(locksBody(relay))!.offered, ["noise"]);
  assert.equal(chosenBy(lockBody()), "noise");
  assert.equal(chosenBy(lockBody("tls"), ["tls"]), "tls");
  assert.equal(chosenBy(null, ["tls"]), "tls"); // An answer that says nothing has chosen TLS.
  for (const body of [null, pack({}), pack({ lock: "tls" }), pack([]), fromHex("c1")]) assert.equal(chosenBy(body), null);
});

test("another key than the one that is wanted ends the path, on both sides", async () => {
  const [asking, asked] = await sides();
  const stranger = await Identity.generate();
  for (const wrong of [[asking, { ...asked, identity: stranger }], [{ ...asking, identity: stranger }, asked]] as const) {
    const [one, other] = Memory.pair();
    const caller = locked(one, wrong[0]).catch((error: unknown) => (one.close(), error));
    const callee = locked(other, wrong[1]).catch((error: unknown) => (other.close(), error));
    const ended = await Promise.all([caller, callee]);
    assert.ok(ended.some((error) => error instanceof ProtocolViolation));
    assert.ok(ended.every((error) => error instanceof ProtocolViolation || error instanceof PathFailed), guidOf(stranger.publicKey));
  }
});

test("another session, relay or offer ends the path", async () => {
  const [asking, asked] = await sides();
  const { agreed } = asked;
  const others: Partial<LockSide>[] = [
    { session: new Uint8Array(16) }, { agreed: { ...agreed, relay: new Uint8Array(32) } },
    { agreed: { ...agreed, offered: ["noise"] } },
  ];
  for (const other of others) {
    const [one, two] = Memory.pair();
    const caller = locked(one, asking).catch((error: unknown) => (one.close(), error));
    const callee = locked(two, { ...asked, ...other }).catch((error: unknown) => (two.close(), error));
    assert.ok((await Promise.all([caller, callee])).some((error) => error instanceof ProtocolViolation));
  }
});

test("records that are changed, left out, replayed, swapped or cut bring nothing", async () => {
  const flipped = (data: Bytes) => data.map((byte, place) => (place === 5 ? byte ^ 1 : byte)) as Bytes;
  const attacks: { [name: string]: (records: Bytes[]) => Bytes[] } = {
    changed: ([one, ...more]) => [flipped(one!), ...more],
    "left out": ([, ...more]) => more,
    replayed: ([one, ...more]) => [one!, one!, ...more],
    swapped: ([one, two]) => [two!, one!],
    "a length below its tag": ([, two]) => [Uint8Array.of(0, 3, 1, 2, 3), two!],
    "a length above the most": ([, two]) => [Uint8Array.of(0xff, 0xff), two!],
  };
  for (const [name, attack] of Object.entries(attacks)) {
    const { paths: [caller, callee], ends: [end, other] } = await both();
    const records: Bytes[] = [];
    end.change = (data) => (records.push(data), []);
    await caller.send(fromHex("6f6e65"));
    await caller.send(fromHex("74776f"));
    for (const one of attack(records)) other.hear(one);
    const read = async () => {
      while ((await callee.receive()) !== null);
    };
    await assert.rejects(read(), ProtocolViolation, name);
  }
  const { paths: [caller, callee], ends: [end] } = await both();
  end.change = (data) => [data.slice(0, -1)];
  await caller.send(fromHex("6f6e65"));
  end.close();
  assert.equal(await callee.receive(), null);
  assert.equal(callee.hasEnded, false);
});

test("an ephemeral key of small order ends the path", async () => {
  const [asking] = await sides();
  const [one, other] = Memory.pair();
  const caller = locked(one, asking);
  await other.read();
  other.write(concat(fromHex("52520102"), new Uint8Array(48)));
  await assert.rejects(caller, ProtocolViolation);
});
