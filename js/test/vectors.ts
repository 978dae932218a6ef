/** docs/protocol-vectors.json, and the values in it. */

import { readFileSync } from "node:fs";
import { concat, fromHex, type Bytes } from "../dist/bytes.js";
import { Float, type Value } from "../dist/messagepack.js";

const FILE = new URL("../../docs/protocol-vectors.json", import.meta.url);

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Vector = { [key: string]: any };

export const vectors = JSON.parse(readFileSync(FILE, "utf8")) as { [key: string]: any };

/** `{"hex": …}` is a bin, `{"float": …}` a float, `{"int": "…"}` an integer of 2⁵³ or more. */
export function valueOf(json: Json): Value {
  if (Array.isArray(json)) return json.map(valueOf);
  if (json === null || typeof json !== "object") return json;
  const [[key, one] = ["", null], ...more] = Object.entries(json);
  if (!more.length && key === "hex") return fromHex(one as string);
  if (!more.length && key === "float") return new Float(one as number);
  if (!more.length && key === "int") return BigInt(one as string);
  return Object.fromEntries(Object.entries(json).map(([name, field]) => [name, valueOf(field)]));
}

/** The bytes of a vector, with those that follow many times. */
export function bytesOf(vector: Vector): Bytes {
  const repeated = vector["then_repeat"];
  const head = fromHex(vector["bytes"]);
  if (!repeated) return head;
  const piece = fromHex(repeated.bytes), out = new Uint8Array(head.length + piece.length * repeated.times);
  out.set(head);
  for (let one = 0; one < repeated.times; one++) out.set(piece, head.length + one * piece.length);
  return concat(out);
}
