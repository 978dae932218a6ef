/** Keys and names (docs/protocol.md §2): WebCrypto's Ed25519, here and in Node. Knows no storage but
 * the one at its end, and no I/O besides. */

import { concat, equal, fromBase64url, utf8, type Bytes } from "./bytes.js";
import { IdentityError } from "./errors.js";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const GUID = /^[a-z2-7]{51}[aq]$/;
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** The GUID of a public key of 32 bytes. */
export function guidOf(key: Uint8Array): string {
  let text = "", bits = 0, held = 0;
  for (const byte of key) {
    bits = (bits << 8) | byte;
    for (held += 8; held >= 5; held -= 5) text += ALPHABET[(bits >> (held - 5)) & 31];
    bits &= 31;
  }
  return text + ALPHABET[(bits << (5 - held)) & 31];
}

/** Whether a text is a GUID: exactly what the encoding of a key gives. */
export function isGuid(text: string): boolean {
  return GUID.test(text);
}

/** The public key that a GUID is. Throws `IdentityError` where it is none. */
export function keyOf(guid: string): Bytes {
  if (typeof guid !== "string" || !isGuid(guid)) throw new IdentityError(`${JSON.stringify(guid)} is no GUID`, "bad_guid");
  const key = new Uint8Array(32);
  let bits = 0, held = 0, at = 0;
  for (const letter of guid) {
    bits = ((bits << 5) | ALPHABET.indexOf(letter)) & 0xfff;
    held += 5;
    if (held >= 8 && at < 32) key[at++] = (bits >> (held -= 8)) & 255;
  }
  return key;
}

/** What a signature is over: the context's name, and the parts. */
function signed(context: string, parts: readonly Uint8Array[]): Bytes {
  return concat(utf8(`roam-relay/1 ${context}\0`), ...parts);
}

/** Whether a signature is that of a key; false for what is no key, too. */
export async function verify(
  key: Uint8Array, signature: Uint8Array, context: string, ...parts: readonly Uint8Array[]
): Promise<boolean> {
  if (signature.length !== 64) return false;
  try {
    const imported = await crypto.subtle.importKey("raw", concat(key), "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, concat(signature), signed(context, parts));
  } catch {
    return false;
  }
}

/** An Ed25519 key pair, and the name that it gives. */
export class Identity {
  /** Why the key could not be kept, as in a private window: it works, and is gone with the page.
   * Null where it is kept, or where nobody asked for that. */
  readonly storageFailure: string | null;

  /** Made by `generate`, `fromSeed` and `load`.
   * @internal */
  protected constructor(
    private readonly secret: CryptoKey, readonly publicKey: Bytes, storageFailure: string | null = null,
  ) {
    this.storageFailure = storageFailure;
  }

  get guid(): string {
    return guidOf(this.publicKey);
  }

  /** A new key that no script can read out. */
  static async generate(): Promise<Identity> {
    needCrypto();
    const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
    return Identity.of(pair as CryptoKeyPair);
  }

  /** The key of a seed of 32 bytes. */
  static async fromSeed(seed: Uint8Array): Promise<Identity> {
    needCrypto();
    if (seed.length !== 32) throw new IdentityError("a seed has 32 bytes", "bad_guid");
    const pkcs8 = concat(PKCS8, seed);
    // WebCrypto gives the public half of a private key only as a JWK, of a key that can be read.
    const readable = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
    const { x = "" } = await crypto.subtle.exportKey("jwk", readable);
    const secret = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
    return new Identity(secret, fromBase64url(x));
  }

  /** The key that this browser keeps under a name, for pages of this origin; made where there is
   * none. Where nothing can be kept, `storageFailure` says why, and the key lives with the page. */
  static async load(name = "default"): Promise<Identity> {
    needCrypto();
    const made = (await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"])) as CryptoKeyPair;
    try {
      const kept = await keep(name, made);
      return await Identity.of(kept);
    } catch (error) {
      return Identity.of(made, `the key cannot be kept: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  private static async of(pair: CryptoKeyPair, failure: string | null = null): Promise<Identity> {
    const key = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
    return new Identity(pair.privateKey, key, failure);
  }

  async sign(context: string, ...parts: readonly Uint8Array[]): Promise<Bytes> {
    return new Uint8Array(await crypto.subtle.sign("Ed25519", this.secret, signed(context, parts)));
  }

  /** Whether two are the same peer. */
  equals(other: Identity): boolean {
    return equal(this.publicKey, other.publicKey);
  }
}

function needCrypto(): void {
  if (globalThis.crypto?.subtle === undefined) {
    throw new IdentityError("this page has no WebCrypto: it must come by https, or from localhost", "bad_guid");
  }
}

/** Keep a pair under a name, unless there is one; return what is there then. One transaction, so
 * that two tabs that do so at once get the same. */
function keep(name: string, made: CryptoKeyPair): Promise<CryptoKeyPair> {
  return new Promise((done, failed) => {
    const opening = indexedDB.open("roam-relay", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
    opening.onblocked = () => failed(new Error("the database is in use"));
    opening.onerror = () => failed(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      let pair = made;
      try {
        const change = database.transaction("keys", "readwrite");
        const keys = change.objectStore("keys");
        const found = keys.get(name);
        found.onsuccess = () => {
          if (found.result === undefined) keys.put(made, name);
          else pair = found.result as CryptoKeyPair;
        };
        change.oncomplete = () => (database.close(), done(pair));
        change.onabort = change.onerror = () => (database.close(), failed(change.error));
      } catch (error) {
        database.close();
        failed(error);
      }
    };
  });
}
