/** Noise_NN_25519_AESGCM_SHA256 (the Noise Protocol Framework, revision 34) by WebCrypto: the handshake,
 * and the two ciphers that it ends in. What is ours is in lock.ts. */

import { concat, NOTHING, utf8, type Bytes } from "./bytes.js";
import { ProtocolViolation } from "./errors.js";

/** Of either half of an ephemeral key. */
export const EPHEMERAL_BYTES = 32;
/** What encryption adds. */
export const TAG_BYTES = 16;
const NAME = utf8("Noise_NN_25519_AESGCM_SHA256");
const LAST_NONCE = 2n ** 64n - 1n;
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20);

function nonce(number: bigint): Bytes {
  const out = new DataView(new ArrayBuffer(12));
  out.setBigUint64(4, number);
  return new Uint8Array(out.buffer);
}

function keyed(raw: Uint8Array): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", concat(raw), "AES-GCM", false, ["encrypt", "decrypt"]);
}

/** One direction: a key, and the number of the next message (Noise §5.1). Several messages may be on
 * their way at once: each has its number from the moment of the call. */
export class Cipher {
  /** Messages that were given to it: the number of the next one. */
  count = 0;

  private constructor(private key: CryptoKey) {}

  static async of(raw: Uint8Array): Promise<Cipher> {
    return new Cipher(await keyed(raw));
  }

  async seal(plain: Uint8Array, associated: Uint8Array = NOTHING): Promise<Bytes> {
    const how = { name: "AES-GCM", iv: nonce(BigInt(this.count++)), additionalData: concat(associated) };
    return new Uint8Array(await crypto.subtle.encrypt(how, this.key, plain as Bytes));
  }

  async open(sealed: Uint8Array, associated: Uint8Array = NOTHING): Promise<Bytes> {
    const how = { name: "AES-GCM", iv: nonce(BigInt(this.count++)), additionalData: concat(associated) };
    try {
      return new Uint8Array(await crypto.subtle.decrypt(how, this.key, sealed as Bytes));
    } catch {
      throw new ProtocolViolation("what came is not the other side's next message");
    }
  }

  /** Go on under the key that follows this one (REKEY of §4.2); the numbers go on as well. */
  async renew(): Promise<void> {
    const how = { name: "AES-GCM", iv: nonce(LAST_NONCE) };
    const next = await crypto.subtle.encrypt(how, this.key, new Uint8Array(32));
    this.key = await keyed(new Uint8Array(next).subarray(0, 32));
  }
}

/** The private half of an ephemeral key, and the public one. */
export interface Ephemeral {
  readonly secret: CryptoKey;
  readonly key: Bytes;
}

export async function ephemeral(): Promise<Ephemeral> {
  const pair = (await crypto.subtle.generateKey("X25519", false, ["deriveBits"])) as CryptoKeyPair;
  return { secret: pair.privateKey, key: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)) };
}

/** That of known bytes, for vectors: `key` is what the secret gives with the base point. */
export async function ephemeralOf(raw: Uint8Array): Promise<Ephemeral> {
  const secret = await crypto.subtle.importKey("pkcs8", concat(PKCS8, raw), "X25519", false, ["deriveBits"]);
  const base = new Uint8Array(32);
  base[0] = 9;
  return { secret, key: await exchange(secret, base) };
}

async function exchange(secret: CryptoKey, remote: Uint8Array): Promise<Bytes> {
  const key = await crypto.subtle.importKey("raw", concat(remote), "X25519", true, []);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: key }, secret, 256));
}

/** Both messages of NN, at one of its sides: `-> e`, `<- e, ee`. */
export class Handshake {
  hash: Bytes = NOTHING;
  private chainingKey: Bytes = NOTHING;
  private remote: Bytes = NOTHING;

  private constructor(private readonly own: Ephemeral) {}

  static async begin(prologue: Uint8Array, own: Ephemeral): Promise<Handshake> {
    const one = new Handshake(own);
    one.hash = concat(NAME, new Uint8Array(32 - NAME.length));
    one.chainingKey = one.hash;
    await one.mix(prologue);
    return one;
  }

  /** The initiator's message. */
  async first(payload: Uint8Array = NOTHING): Promise<Bytes> {
    await this.mix(this.own.key);
    await this.mix(payload);
    return concat(this.own.key, payload);
  }

  /** Take it, as the responder; return its payload. */
  async takeFirst(message: Uint8Array): Promise<Bytes> {
    this.remote = message.slice(0, EPHEMERAL_BYTES) as Bytes;
    await this.mix(this.remote);
    const payload = message.slice(EPHEMERAL_BYTES) as Bytes;
    await this.mix(payload);
    return payload;
  }

  /** The responder's message. */
  async second(payload: Uint8Array = NOTHING): Promise<Bytes> {
    await this.mix(this.own.key);
    const sealed = await (await this.agree()).seal(payload, this.hash);
    await this.mix(sealed);
    return concat(this.own.key, sealed);
  }

  /** Take it, as the initiator; return its payload. */
  async takeSecond(message: Uint8Array): Promise<Bytes> {
    this.remote = message.slice(0, EPHEMERAL_BYTES) as Bytes;
    await this.mix(this.remote);
    const cipher = await this.agree();
    const sealed = message.slice(EPHEMERAL_BYTES);
    const payload = await cipher.open(sealed, this.hash);
    await this.mix(sealed);
    return payload;
  }

  /** The ciphers of what the initiator sends, and of what the responder does. */
  async split(): Promise<readonly [Cipher, Cipher]> {
    const [first, second] = await this.derive(NOTHING);
    return [await Cipher.of(first), await Cipher.of(second)];
  }

  private async agree(): Promise<Cipher> {
    let shared: Bytes;
    try {
      shared = await exchange(this.own.secret, this.remote);
    } catch {
      shared = new Uint8Array(32);
    }
    // A point of small order: the secret would be zero whatever the private half.
    if (shared.every((byte) => byte === 0)) throw new ProtocolViolation("a key that no secret can be made with");
    const [chaining, key] = await this.derive(shared);
    this.chainingKey = chaining;
    return Cipher.of(key);
  }

  /** HKDF of §4.3, which is that of RFC 5869 with no info. */
  private async derive(material: Uint8Array): Promise<readonly [Bytes, Bytes]> {
    const key = await crypto.subtle.importKey("raw", concat(material), "HKDF", false, ["deriveBits"]);
    const how = { name: "HKDF", hash: "SHA-256", salt: this.chainingKey, info: NOTHING };
    const derived = new Uint8Array(await crypto.subtle.deriveBits(how, key, 512));
    return [derived.slice(0, 32), derived.slice(32)];
  }

  private async mix(data: Uint8Array): Promise<void> {
    this.hash = new Uint8Array(await crypto.subtle.digest("SHA-256", concat(this.hash, data)));
  }
}
