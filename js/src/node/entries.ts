/** Signed entries: where a service can be dialed, in the words of its peer (docs/protocol.md §6). */

import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { base64url, concat, utf8, type Bytes } from "../bytes.js";
import { int, matching, sequence, text, word } from "../fields.js";
import { pack, unpack } from "../messagepack.js";
import { SERVICE, type SignedEntry } from "../messages.js";
import { canonical, isNobody, type Endpoint } from "./addresses.js";
import type { Identity } from "./identity.js";

export type Phase = "preferred" | "new" | "leaving";
export type Provenance = "interface" | "observed" | "configured";

export interface Entry extends Endpoint {
  readonly seq: number;
  readonly service: string;
  readonly phase: Phase;
  readonly lifetime: number;
}

/** One that is this peer's own. */
export interface Own extends Endpoint {
  readonly phase: Phase;
  readonly provenance: Provenance;
}

const LIFETIME = 120;
const CONTEXT = utf8("roam-relay/1 endpoint\0");

export function signEntry(identity: Identity, seq: number, service: string, own: Own): { body: Bytes; signature: Bytes } {
  const { host, port, phase, provenance } = own;
  const body = pack([seq, service, host, port, phase, LIFETIME, provenance]);
  return { body, signature: identity.signNow("endpoint", identity.publicKey, body) };
}

/** A key as OpenSSL takes it. */
export function verifier(key: Uint8Array): KeyObject {
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: base64url(key) }, format: "jwk" });
}

/** What an entry says; null where it is not signed by that key, or says nothing that could be dialed. */
export function openEntry(key: Uint8Array, verifier: KeyObject, { body, signature }: SignedEntry): Entry | null {
  try {
    if (!verify(null, concat(CONTEXT, key, body), verifier, signature)) return null;
    const value = unpack(body);
    if (!Array.isArray(value)) return null;
    const [seq, service, host, port, phase, lifetime, provenance] = value;
    word("interface", "observed", "configured")(provenance, "provenance");
    const entry = {
      seq: sequence()(seq, "seq"), service: matching(SERVICE)(service, "service"), host: text(1, 45)(host, "host"),
      port: int(1, 65_535)(port, "port"), phase: word("preferred", "new", "leaving")(phase, "phase"),
      lifetime: int(0, 604_800)(lifetime, "lifetime"),
    };
    return canonical(entry.host) === entry.host && !isNobody(entry.host) ? entry : null;
  } catch {
    return null; // Malformed, or a key that is none.
  }
}
