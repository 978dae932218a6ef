/** Invitations to a relay that does not take everybody (docs/protocol.md §7, the invitation): the token that a
 * person was given, and what of it is shown to a relay. */

import { concat, equal, fromBase64url, NOTHING, type Bytes } from "./bytes.js";
import { Identity } from "./identity.js";
import { unpack } from "./messagepack.js";

const PREFIX = "rr1-";
const SEED = 32, SIGNATURE = 64, CHECK = 4;
const LONGEST = 2048;

/** A token: a secret, which nothing shows and nobody is sent. */
export class Invitation {
  readonly #key: Identity;
  readonly #signed: Bytes;

  private constructor(key: Identity, signed: Bytes) {
    this.#key = key;
    this.#signed = signed;
  }

  /** Read a token; white space, as a mail puts it in, means nothing. Throws `TypeError` where it is none, or
   * not all of it. */
  static async read(text: string): Promise<Invitation> {
    if (typeof text !== "string") throw new TypeError("an invitation is a text");
    const token = text.length > LONGEST ? "" : text.replace(/\s/g, "");
    if (!token.startsWith(PREFIX)) throw new TypeError(`not an invitation: one begins with ${PREFIX}`);
    if (/[^\w-]/.test(token)) throw new TypeError("the invitation has a character that belongs to none");
    // Of four characters, one alone says nothing.
    const data = token.length % 4 === 1 ? NOTHING : fromBase64url(token.slice(PREFIX.length));
    const body = data.slice(0, -CHECK);
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body)).subarray(0, CHECK);
    if (body.length <= SEED + SIGNATURE || !equal(sum, data.subarray(-CHECK))) {
      throw new TypeError("the invitation is not whole: copy all of it");
    }
    const key = await Identity.fromSeed(body.slice(0, SEED));
    if (!isNamed(key.publicKey, body.slice(SEED + SIGNATURE))) {
      throw new TypeError("the invitation's key is not the one that it names");
    }
    return new Invitation(key, body.slice(SEED));
  }

  /** What admits one peer, and nobody else, to one relay, at the challenge with `nonce`. */
  async present(relayKey: Uint8Array, nonce: Uint8Array, peerKey: Uint8Array): Promise<Bytes> {
    return concat(await this.#key.sign("invitation presented", relayKey, nonce, peerKey), this.#signed);
  }
}

/** Whether a statement names this key. Who has signed it is for the relay to see. */
function isNamed(key: Bytes, statement: Bytes): boolean {
  try {
    const fields = unpack(statement);
    const named = Array.isArray(fields) ? (fields as readonly unknown[])[1] : null;
    return named instanceof Uint8Array && equal(named, key);
  } catch {
    return false;
  }
}
