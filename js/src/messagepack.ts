/** MessagePack as docs/protocol.md §4 allows it, with its limits. Pure. */

import { concat, NOTHING, utf8, type Bytes } from "./bytes.js";
import { ProtocolViolation } from "./errors.js";

/** A float: 1.0 is another value on the wire than 1. */
export class Float {
  constructor(readonly value: number) {}
}

export type Value =
  | null | boolean | number | bigint | string | Uint8Array | Float
  | readonly Value[] | { readonly [key: string]: Value | undefined };
export type Fields = { readonly [key: string]: Value | undefined };

const MAX_TEXT = 4096;
const MAX_KEYS = 64;
const MAX_DEPTH = 1024;

/** Write a value. Keys whose value is `undefined` are left out. */
export function pack(value: Value): Bytes {
  const parts: Uint8Array[] = [];
  write(value, parts);
  return concat(...parts);
}

function write(value: Value, parts: Uint8Array[]): void {
  if (value === null) parts.push(Uint8Array.of(0xc0));
  else if (typeof value === "boolean") parts.push(Uint8Array.of(value ? 0xc3 : 0xc2));
  else if (typeof value === "number" || typeof value === "bigint") parts.push(integer(value));
  else if (value instanceof Float) {
    const out = new DataView(new ArrayBuffer(9));
    out.setUint8(0, 0xcb);
    out.setFloat64(1, value.value);
    parts.push(new Uint8Array(out.buffer));
  } else if (typeof value === "string") {
    const text = utf8(value);
    parts.push(text.length < 32 ? Uint8Array.of(0xa0 | text.length) : head(text.length, 0xd9, 1), text);
  } else if (value instanceof Uint8Array) {
    parts.push(head(value.length, 0xc4, 1), value);
  } else if (Array.isArray(value)) {
    parts.push(value.length < 16 ? Uint8Array.of(0x90 | value.length) : head(value.length, 0xdc, 2));
    for (const one of value as readonly Value[]) write(one, parts);
  } else {
    const pairs = Object.entries(value as Fields).filter(([, one]) => one !== undefined);
    parts.push(pairs.length < 16 ? Uint8Array.of(0x80 | pairs.length) : head(pairs.length, 0xde, 2));
    for (const [key, one] of pairs) {
      write(key, parts);
      write(one as Value, parts);
    }
  }
}

/** A kind and a length, of `width` bytes or as many more as it needs. */
function head(size: number, kind: number, width: number): Bytes {
  for (let at = width; ; at *= 2, kind++) {
    if (size >= 2 ** (8 * at)) continue;
    const out = new Uint8Array(1 + at);
    out[0] = kind;
    for (let place = at, rest = size; place > 0; place--, rest = Math.floor(rest / 256)) out[place] = rest % 256;
    return out;
  }
}

function integer(value: number | bigint): Bytes {
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw new RangeError(`${value} is no whole number`);
  if (value >= -32 && value < 128) return Uint8Array.of(Number(value) & 255);
  const most = value < 0 ? -2 * (Number(value) + 1) + 1 : Number(value);
  const place = most < 2 ** 8 ? 0 : most < 2 ** 16 ? 1 : most < 2 ** 32 ? 2 : 3;
  const out = new Uint8Array(1 + 2 ** place);
  out[0] = (value < 0 ? 0xd0 : 0xcc) + place;
  let rest = BigInt(value);
  for (let at = 2 ** place; at > 0; at--, rest >>= 8n) out[at] = Number(rest & 255n);
  return out;
}

export interface Limits {
  /** Bytes of one value, as encoded. */
  readonly bytes: number;
  /** Bytes of one bin. */
  readonly bin: number;
  /** Elements of an array. */
  readonly array: number;
}

export const CONTROL_LIMITS: Limits = { bytes: 65_536, bin: 65_536, array: 1024 };

/** Bytes of an empty buffer that are kept for what comes next. */
const KEPT = 1 << 18;

/** Values out of a stream, in whatever pieces it comes. Feeding n bytes costs O(n): where the next value
 * ends is found by going on where the last piece ended, and it is built once, when it is whole. */
export class Reader {
  private data: Bytes = NOTHING;
  private view = new DataView(NOTHING.buffer);
  /** What was fed and not taken stands from `start` to `end`, and was looked at up to `seen`. */
  private start = 0;
  private seen = 0;
  private end = 0;
  /** Where a value is built. */
  private at = 0;
  /** How many values are missing in each array that was begun; of a map, less than 0, keys and values. */
  private readonly open: number[] = [];

  constructor(private readonly limits: Limits = CONTROL_LIMITS) {}

  feed(piece: Uint8Array): void {
    const held = this.end - this.start, needed = held + piece.length;
    if (this.end + piece.length > this.data.length) {
      const old = this.data;
      if (2 * needed > old.length) {
        this.data = new Uint8Array(2 * needed);
        this.view = new DataView(this.data.buffer);
      }
      this.data.set(old.subarray(this.start, this.end));
      this.seen -= this.start;
      this.start = 0;
      this.end = held;
    }
    this.data.set(piece, this.end);
    this.end += piece.length;
  }

  /** What was fed and is no whole value yet. */
  get rest(): Bytes {
    return this.data.slice(this.start, this.end);
  }

  /** The next value; `undefined` where it is not whole yet. */
  next(): Value | undefined {
    const isWhole = this.skip();
    if ((isWhole ? this.seen : this.end) - this.start > this.limits.bytes) throw tooLarge(this.limits.bytes);
    if (!isWhole) return undefined;
    this.at = this.start;
    const value = this.build();
    this.start = this.seen;
    if (this.start === this.end && this.data.length > KEPT) {
      this.data = NOTHING;
      this.start = this.seen = this.end = 0;
    }
    return value;
  }

  /** All values that are whole. What stands before a fault is yielded before it is thrown. */
  *values(): Generator<Value> {
    for (let value = this.next(); value !== undefined; value = this.next()) yield value;
  }

  /** Look for the end of the next value; whether it is here. Limits are looked at as soon as a head says
   * what is to follow. */
  private skip(): boolean {
    const { open, limits, view, end } = this;
    while (this.seen < end) {
      const kind = view.getUint8(this.seen);
      let body = this.seen + 1, size = 0, count = 0;
      if (kind >= 0x80 && kind < 0xa0) count = kind & 15;
      else if (kind >= 0xa0 && kind < 0xc0) size = kind & 31;
      else if (kind === 0xc1 || (kind > 0xc6 && kind < 0xca) || (kind > 0xd3 && kind < 0xd9)) {
        throw new ProtocolViolation(`no value begins with ${kind}`);
      } else if (kind >= 0xca && kind < 0xd4) size = kind < 0xcc ? 4 << (kind - 0xca) : 1 << (kind & 3);
      else if (kind > 0xc3 && kind < 0xe0) {
        const width = kind < 0xd9 ? 1 << (kind - 0xc4) : kind < 0xdc ? 1 << (kind - 0xd9) : 2 << (kind & 1);
        if (body + width > end) return false;
        const told = width === 1 ? view.getUint8(body) : width === 2 ? view.getUint16(body) : view.getUint32(body);
        body += width;
        if (kind < 0xdc) size = told;
        else count = told;
      }
      const isText = (kind >= 0xa0 && kind < 0xc0) || (kind > 0xd8 && kind < 0xdc);
      const isMap = (kind >= 0x80 && kind < 0x90) || kind === 0xde || kind === 0xdf;
      const inside = open.at(-1) ?? 1;
      if (open.length > MAX_DEPTH) throw new ProtocolViolation("nested too deep");
      if (inside < 0 && inside % 2 === 0 && !isText) throw new ProtocolViolation("a key that is no text");
      if (isText && size > MAX_TEXT) throw new ProtocolViolation("a long text");
      if (isMap && count > MAX_KEYS) throw new ProtocolViolation("a large map");
      if (count > limits.array) throw new ProtocolViolation("a long array");
      if (size > limits.bin || body - this.start + size > limits.bytes) throw tooLarge(limits.bin);
      if (body + size > end) return false;
      this.seen = body + size;
      if (count) {
        open.push(isMap ? -2 * count : count);
        continue;
      }
      for (let left = 0; left === 0;) {
        const last = open.pop();
        if (last === undefined) return true;
        left = last - Math.sign(last);
        if (left) open.push(left);
      }
    }
    return false;
  }

  private take(count: number): number {
    const from = this.at;
    this.at += count;
    return from;
  }

  private uint(width: number): number | bigint {
    const at = this.take(width);
    if (width === 1) return this.view.getUint8(at);
    if (width === 2) return this.view.getUint16(at);
    if (width === 4) return this.view.getUint32(at);
    return small(this.view.getBigUint64(at));
  }

  /** Build the value that stands here: `skip` has seen that it is whole, and within the limits. */
  private build(): Value {
    const kind = this.view.getUint8(this.take(1));
    if (kind < 0x80) return kind;
    if (kind >= 0xe0) return kind - 0x100;
    if (kind < 0x90) return this.map(kind & 15);
    if (kind < 0xa0) return this.array(kind & 15);
    if (kind < 0xc0) return this.text(kind & 31);
    switch (kind) {
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.bin(Number(this.uint(1 << (kind - 0xc4))));
      case 0xca: return new Float(this.view.getFloat32(this.take(4)));
      case 0xcb: return new Float(this.view.getFloat64(this.take(8)));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return this.uint(1 << (kind - 0xcc));
      case 0xd0: return this.view.getInt8(this.take(1));
      case 0xd1: return this.view.getInt16(this.take(2));
      case 0xd2: return this.view.getInt32(this.take(4));
      case 0xd3: return small(this.view.getBigInt64(this.take(8)));
      case 0xd9: case 0xda: case 0xdb: return this.text(Number(this.uint(1 << (kind - 0xd9))));
      case 0xdc: case 0xdd: return this.array(Number(this.uint(2 << (kind - 0xdc))));
      case 0xde: case 0xdf: return this.map(Number(this.uint(2 << (kind - 0xde))));
      default: return null;
    }
  }

  private bin(size: number): Bytes {
    const from = this.take(size);
    return this.data.slice(from, from + size);
  }

  private text(size: number): string {
    const from = this.take(size);
    try {
      return decoder.decode(this.data.subarray(from, from + size));
    } catch {
      throw new ProtocolViolation("no UTF-8");
    }
  }

  private array(count: number): Value[] {
    const out: Value[] = [];
    for (let one = 0; one < count; one++) out.push(this.build());
    return out;
  }

  private map(count: number): Fields {
    // Without a prototype: `__proto__` is a key like any other.
    const map = Object.create(null) as Record<string, Value>;
    for (let one = 0; one < count; one++) {
      const key = this.build() as string;
      map[key] = this.build();
    }
    return map;
  }
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function small(value: bigint): number | bigint {
  return value >= -(2n ** 53n) && value < 2n ** 53n ? Number(value) : value;
}

function tooLarge(most: number): ProtocolViolation {
  return new ProtocolViolation(`more than ${most} bytes`, "message_too_large");
}

/** The one value that some bytes are. */
export function unpack(bytes: Uint8Array, limits: Limits = CONTROL_LIMITS): Value {
  const reader = new Reader(limits);
  reader.feed(bytes);
  const value = reader.next();
  if (value === undefined || reader.rest.length) throw new ProtocolViolation("not one value");
  return value;
}
