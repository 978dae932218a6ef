/** The self-signed certificate that a path presents (docs/protocol.md §10): X.509 in DER, by hand, as Node makes
 * none. Nothing in it counts but its key. Pure, but for the signature. */

import { sign, type KeyObject } from "node:crypto";
import { concat, utf8, type Bytes } from "../bytes.js";

const INTEGER = 2, BIT_STRING = 3, OID = 6, UTF8_STRING = 12, UTC_TIME = 23, GENERALIZED_TIME = 24;
const SEQUENCE = 0x30, SET = 0x31, VERSION = 0xa0;

function element(tag: number, ...parts: readonly Uint8Array[]): Bytes {
  const content = concat(...parts);
  const { length } = content;
  if (length >= 1 << 16) throw new RangeError("too long for a certificate");
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return concat(Uint8Array.of(tag, ...head), content);
}

const ED25519 = element(SEQUENCE, element(OID, Uint8Array.of(0x2b, 0x65, 0x70)));
const COMMON_NAME = element(OID, Uint8Array.of(0x55, 0x04, 0x03));
const V3 = element(VERSION, element(INTEGER, Uint8Array.of(2)));
// Dates that never matter need no clock.
const VALIDITY = element(
  SEQUENCE, element(UTC_TIME, utf8("200101000000Z")), element(GENERALIZED_TIME, utf8("99991231235959Z")),
);

function bits(content: Uint8Array): Bytes {
  return element(BIT_STRING, Uint8Array.of(0), content);
}

/** The certificate of a key, in DER; `guid` is its name. */
export function certificateOf(key: KeyObject, publicKey: Uint8Array, guid: string): Bytes {
  const name = element(SEQUENCE, element(SET, element(SEQUENCE, COMMON_NAME, element(UTF8_STRING, utf8(guid)))));
  // A serial number is above 0: the first bytes of the key, behind a one.
  const serial = element(INTEGER, Uint8Array.of(1), publicKey.subarray(0, 15));
  const spki = element(SEQUENCE, ED25519, bits(publicKey));
  const body = element(SEQUENCE, V3, serial, ED25519, name, VALIDITY, name, spki);
  return element(SEQUENCE, body, ED25519, bits(sign(null, body, key)));
}

/** DER as PEM. */
export function pemOf(der: Uint8Array): string {
  const lines = Buffer.from(der).toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}
