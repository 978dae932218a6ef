/** What may stand in a field of a message (docs/protocol.md §4, §7): types, limits, defaults. Pure. */

import type { Bytes } from "./bytes.js";
import { ProtocolViolation } from "./errors.js";
import { Float, type Fields, type Value } from "./messagepack.js";

/** Reads the value of a field; throws `ProtocolViolation` where it is none. */
export type Field<T> = (value: Value | undefined, name: string) => T;
export type Table = { readonly [name: string]: Field<unknown> };
export type Read<T extends Table> = { readonly [K in keyof T]: ReturnType<T[K]> };

function wrong(name: string): never {
  throw new ProtocolViolation(`${name} is missing, or not what it must be`);
}

export function int(low = 0, high = Number.MAX_SAFE_INTEGER): Field<number> {
  return (value, name) =>
    typeof value === "number" && value >= low && value <= high ? value : wrong(name);
}

/** An int of up to 2⁶³−1: only its order counts, so that one above 2⁵³ may lose its last bits. */
export function sequence(): Field<number> {
  return (value, name) =>
    typeof value === "bigint" && value >= 0 && value < 1n << 63n ? Number(value) : int()(value, name);
}

export function float(low: number, high: number): Field<number> {
  return (value, name) => {
    const number = value instanceof Float ? value.value : value;
    return typeof number === "number" && number >= low && number <= high ? number : wrong(name);
  };
}

export const bool: Field<boolean> = (value, name) => (typeof value === "boolean" ? value : wrong(name));

/** A text of so many characters. */
export function text(low: number, high: number): Field<string> {
  return (value, name) => {
    if (typeof value !== "string") return wrong(name);
    const size = value.length <= low ? value.length : [...value].length;
    return size >= low && size <= high ? value : wrong(name);
  };
}

export function matching(pattern: RegExp): Field<string> {
  return (value, name) => (typeof value === "string" && pattern.test(value) ? value : wrong(name));
}

export function word<const W extends string>(...words: readonly W[]): Field<W> {
  return (value, name) => (words.includes(value as W) ? (value as W) : wrong(name));
}

export function bin(low: number, high: number): Field<Bytes> {
  return (value, name) =>
    value instanceof Uint8Array && value.length >= low && value.length <= high ? (value as Bytes) : wrong(name);
}

export function array<T>(of: Field<T>, most: number): Field<readonly T[]> {
  return (value, name) =>
    Array.isArray(value) && value.length <= most ? (value as readonly Value[]).map((one) => of(one, name)) : wrong(name);
}

export function map<T extends Table>(table: T): Field<Read<T>> {
  return (value, name) => (isMap(value) ? read(table, value) : wrong(name));
}

/** An array that may be left out: it is empty then. */
export function list<T>(of: Field<T>, most: number): Field<readonly T[]> {
  const field = array(of, most);
  return (value, name) => (value === undefined ? [] : field(value, name));
}

/** A field that may be left out. */
export function or<T, D>(fallback: D, field: Field<T>): Field<T | D> {
  return (value, name) => (value === undefined ? fallback : field(value, name));
}

/** A field that may be left out, or nil. */
export function orNil<T>(field: Field<T>): Field<T | null> {
  return (value, name) => (value === undefined || value === null ? null : field(value, name));
}

export function isMap(value: Value | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    && !(value instanceof Uint8Array) && !(value instanceof Float);
}

/** Read the fields of a map; keys that are not in the table mean nothing. */
export function read<T extends Table>(table: T, map: Fields): Read<T> {
  const out: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(table)) out[name] = field(map[name], name);
  return out as Read<T>;
}
