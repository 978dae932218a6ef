/** The messages of the control connection, and of a path's head, that a peer receives: tables of
 * docs/protocol.md §7 and §10. Pure. */

import { codeOf, ProtocolViolation, type Code } from "./errors.js";
import {
  bin, bool, float, int, isMap, list, map, matching, or, orNil, read, sequence, text, word,
  type Field, type Read,
} from "./fields.js";
import type { Bytes } from "./bytes.js";
import type { Value } from "./messagepack.js";

export const MODES = ["p2p", "central", "combined", "auto"] as const;
export type Mode = (typeof MODES)[number];
export type PeerState = "online" | "suspect" | "offline";

const YEAR = 31_536_000;
const number32 = int(0, 2 ** 32 - 1);
const guid = text(52, 52);
const reason = or("", text(0, 512));
const seconds = float(0, YEAR);
export const SERVICE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const service = matching(SERVICE);
const mode = word(...MODES);
const features = list(text(1, 32), 32);
const entries = list(map({ body: bin(0, 256), signature: bin(64, 64) }), 16);
const ticket = orNil(matching(/^[0-9a-f]{32}$/));
const offer = or(new Uint8Array(0), bin(0, 2048));
const code: Field<Code> = (value, name) => codeOf(text(0, 4096)(value, name));

export type SignedEntry = { readonly body: Bytes; readonly signature: Bytes };

const TABLES = {
  challenge: {
    guid, nonce: bin(32, 32), signature: bin(64, 64), features, invitation: or(false, bool),
    succession: list(bin(160, 160), 8),
  },
  registered: {
    seq: sequence(), observed_host: text(0, 45), observed_port: int(0, 65_535),
    heartbeat: float(0, YEAR), lease: float(0, YEAR), relays: list(text(0, 512), 1024),
    fqdn: or("", text(0, 253)),
  },
  service_request_from: {
    request: number32, guid, service, mode, session: bin(16, 16), entries,
    timeout: or(10, float(0, YEAR)), ticket, resume: or(false, bool), offer,
  },
  service_response: {
    request: number32, code: orNil(code), reason, state: orNil(word("online", "suspect", "offline")),
    last_seen: orNil(seconds), retry_after: orNil(seconds), entries, ticket, offer,
  },
  peer_event: {
    guid, state: or("offline" as const, word("online", "suspect", "offline")),
    last_seen: orNil(seconds), seq: or(0, sequence()), code: orNil(code),
  },
  restarting: { delay: seconds, spread: seconds },
  ping: { ping: or(0, number32) },
  pong: { ping: or(0, number32) },
  error: { code, reason, retry_after: orNil(seconds), seq: orNil(sequence()) },
} as const;

const numbers = {
  received: or(0, int()), consumed: or(0, int()), window: or(8_388_608, int(1024)), entries, features,
  partial: or(0, int()), idle: or(0, seconds), metadata: or(new Uint8Array(0), bin(0, 1024)),
} as const;
const HEADS = {
  path_hello: {
    ...numbers, session: bin(16, 16), service, mode, version: or(1, int(-(2 ** 53) + 1)),
    resume: or(false, bool), path: or(1, int(1, 2 ** 32 - 1)), standby: or(false, bool),
  },
  path_welcome: numbers,
  path_reject: { code, reason },
} as const;

type Tables = typeof TABLES;
type Heads = typeof HEADS;
export type Control = { [T in keyof Tables]: { readonly type: T } & Read<Tables[T]> }[keyof Tables];
export type Head = { [T in keyof Heads]: { readonly type: T } & Read<Heads[T]> }[keyof Heads];
export type Message<T extends Control["type"]> = Extract<Control, { type: T }>;
export type PathHello = Extract<Head, { type: "path_hello" }>;
export type PathWelcome = Extract<Head, { type: "path_welcome" }>;

function typeOf(value: Value): string {
  if (!isMap(value) || typeof value["type"] !== "string") throw new ProtocolViolation("no message");
  return value["type"];
}

/** Read a message of the control connection; null for a type that is not known here. */
export function readControl(value: Value): Control | null {
  const type = typeOf(value);
  if (!Object.hasOwn(TABLES, type)) return null;
  return { type, ...read(TABLES[type as keyof Tables], value as never) } as unknown as Control;
}

/** Read what stands at the head of a path. */
export function readHead(value: Value): Head {
  const type = typeOf(value);
  if (!Object.hasOwn(HEADS, type)) throw new ProtocolViolation(`${type} at the head of a path`);
  return { type, ...read(HEADS[type as keyof Heads], value as never) } as unknown as Head;
}

/** Whether a path is newer than the one that a session has taken last (§10): by its number, and of
 * the same number by who has dialed it. */
export interface PathRank {
  readonly path: number;
  readonly dialedByCaller: boolean;
}

export function isNewer(offered: PathRank, taken: PathRank): boolean {
  return offered.path !== taken.path
    ? offered.path > taken.path : offered.dialedByCaller && !taken.dialedByCaller;
}
