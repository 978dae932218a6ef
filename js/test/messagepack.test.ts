/** What the vectors do not show of the reader of MessagePack: pieces, and what they cost. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { concat } from "../dist/bytes.js";
import { ProtocolViolation } from "../dist/errors.js";
import { CONTROL_LIMITS, Float, pack, Reader, unpack, type Value } from "../dist/messagepack.js";

const VALUES: readonly Value[] = [
  null, true, false, 0, 127, 128, -1, -32, -33, 65_535, 65_536, 2 ** 40, -(2 ** 40), 2n ** 63n, new Float(0.5), "", "a",
  "ü".repeat(200), new Uint8Array(300).fill(7), [], [[], [[1, [2]]], {}],
  { a: 1, b: { c: [1, "x", { d: null }] }, e: new Uint8Array(3) }, Array.from({ length: 40 }, (_, place) => [place]),
];

/** What stands above what is sent in the first revision. */
const LARGE = { ...CONTROL_LIMITS, bytes: 1 << 21 };

test("values come out the same, in whatever pieces they come", () => {
  const all = concat(...VALUES.map(pack));
  const whole = new Reader();
  whole.feed(all);
  const expected = [...whole.values()];
  assert.deepEqual(expected.map((value) => [...pack(value)]), VALUES.map((value) => [...pack(value)]));
  for (const size of [1, 2, 3, 7, 100]) {
    const reader = new Reader();
    const got: Value[] = [];
    for (let at = 0; at < all.length; at += size) {
      reader.feed(all.subarray(at, at + size));
      got.push(...reader.values());
    }
    assert.deepEqual(got, expected);
    assert.equal(reader.rest.length, 0);
  }
});

test("what stands behind a value is kept", () => {
  const reader = new Reader();
  reader.feed(concat(pack([1, 2]), Uint8Array.of(0x92, 1)));
  assert.deepEqual(reader.next(), [1, 2]);
  assert.equal(reader.next(), undefined);
  assert.deepEqual([...reader.rest], [0x92, 1]);
  reader.feed(Uint8Array.of(2));
  assert.deepEqual(reader.next(), [1, 2]);
});

test("a value that comes byte by byte is looked at once, and not from its begin each time", () => {
  const reader = new Reader(LARGE);
  const inner = pack(Array.from({ length: 1000 }, () => 1));
  reader.feed(concat(Uint8Array.of(0xdc, 4, 0), ...Array.from({ length: 1000 }, () => inner)));
  assert.equal(reader.next(), undefined);
  // Each byte of the first megabyte that is read once more is counted.
  let reads = 0;
  const { getUint8 } = DataView.prototype;
  DataView.prototype.getUint8 = function (at) {
    reads += 1;
    return getUint8.call(this, at);
  };
  try {
    for (let one = 0; one < 23; one++) {
      reader.feed(Uint8Array.of(1));
      assert.equal(reader.next(), undefined);
    }
    assert.ok(reads <= 100, `${reads} bytes were read for 23`);
  } finally {
    DataView.prototype.getUint8 = getUint8;
  }
  reader.feed(Uint8Array.of(1));
  assert.equal((reader.next() as Value[]).length, 1024);
});

test("a buffer grows by what is in it, and not with each byte", () => {
  const reader = new Reader(LARGE);
  reader.feed(concat(Uint8Array.of(0xdc, 4, 0), ...Array.from({ length: 1000 }, () => pack(new Uint8Array(1000)))));
  reader.next();
  let copied = 0;
  const { set } = Uint8Array.prototype;
  Uint8Array.prototype.set = function (from, to) {
    copied += from.length;
    set.call(this, from, to);
  };
  try {
    for (let one = 0; one < 20; one++) reader.feed(Uint8Array.of(1));
  } finally {
    Uint8Array.prototype.set = set;
  }
  assert.ok(copied <= 20, `${copied} bytes were copied`);
});

test("limits hold before a value is whole", () => {
  const read = (bytes: readonly number[]) => {
    const reader = new Reader();
    for (const byte of bytes) {
      reader.feed(Uint8Array.of(byte));
      reader.next();
    }
  };
  const refused = (bytes: readonly number[], code = "bad_message") => assert.throws(
    () => read(bytes),
    (error) => error instanceof ProtocolViolation && error.code === code, `${bytes.slice(0, 8)}`,
  );
  refused([0xc1]);
  refused([0xd4]);
  refused([0xc7]);
  refused([0xdc, 4, 1]);
  refused([0xdd, 255, 255, 255, 255]);
  refused([0xde, 0, 65]);
  refused([0xda, 16, 1]);
  refused([0x81, 1]);
  refused([0x82, 0xa1, 97, 1, 0xc0]);
  refused([0xc6, 0, 1, 0, 1], "message_too_large");
  refused(Array.from({ length: 1027 }, () => 0x91));
  read(Array.from({ length: 1025 }, () => 0x91));
  refused([0xdc, 1, 0, ...Array.from({ length: 16 }, () => [0xda, 16, 0, ...new Array<number>(4096).fill(97)]).flat()], "message_too_large");
  assert.throws(() => unpack(Uint8Array.of(1, 2)), ProtocolViolation);
});
