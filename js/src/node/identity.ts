/** An identity whose key can do TLS: WebCrypto's, which a page has, signs and does nothing else. */

import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { constants } from "node:crypto";
import { utf8, concat, type Bytes } from "../bytes.js";
import { IdentityError } from "../errors.js";
import { guidOf, Identity as PageIdentity } from "../identity.js";
import { certificateOf, pemOf } from "./certificate.js";

const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** An Ed25519 key pair, the name that it gives, and the certificate that proves it in TLS. */
export class Identity extends PageIdentity {
  private readonly key: KeyObject;
  private context: SecureContext | null = null;

  private constructor(secret: CryptoKey, publicKey: Bytes, key: KeyObject) {
    super(secret, publicKey);
    this.key = key;
  }

  /** A new one, for as long as the program runs. */
  static override async generate(): Promise<Identity> {
    return Identity.ofKey(generateKeyPairSync("ed25519").privateKey);
  }

  /** The key of a seed of 32 bytes. */
  static override async fromSeed(seed: Uint8Array): Promise<Identity> {
    if (!(seed instanceof Uint8Array) || seed.length !== 32) throw new IdentityError("a seed has 32 bytes", "bad_guid");
    return Identity.ofKey(createPrivateKey({ key: Buffer.from(concat(PKCS8, seed)), format: "der", type: "pkcs8" }));
  }

  /** That in a PEM file that only its owner may read; made (mode 0600) where there is no file. */
  static override async load(path: string): Promise<Identity> {
    return loadIdentity(path);
  }

  private static async ofKey(key: KeyObject): Promise<Identity> {
    const { x = "" } = createPublicKey(key).export({ format: "jwk" });
    const pkcs8 = new Uint8Array(key.export({ format: "der", type: "pkcs8" }));
    const secret = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
    return new Identity(secret, new Uint8Array(Buffer.from(x, "base64url")), key);
  }

  /** As `sign`, at once. */
  signNow(context: string, ...parts: readonly Uint8Array[]): Bytes {
    return new Uint8Array(sign(null, concat(utf8(`roam-relay/1 ${context}\0`), ...parts), this.key));
  }

  /** What all paths of this identity share. */
  get secureContext(): SecureContext {
    this.context ??= createSecureContext({
      cert: pemOf(certificateOf(this.key, this.publicKey, this.guid)),
      key: this.key.export({ format: "pem", type: "pkcs8" }),
      minVersion: "TLSv1.3", secureOptions: constants.SSL_OP_NO_TICKET,
    });
    return this.context;
  }

  /** @internal */
  static async read(path: string): Promise<Identity> {
    const file = await open(path, "r");
    const { mode } = await file.stat();
    await file.close();
    if (mode & 0o077) throw new IdentityError(`${path} may be read by others than its owner: chmod 600`, "bad_guid");
    const key = createPrivateKey(await readFile(path));
    if (createPublicKey(key).asymmetricKeyType !== "ed25519") throw new IdentityError(`${path} holds no Ed25519 key`, "bad_guid");
    return Identity.ofKey(key);
  }
}

/** The GUID of the key in a certificate; null where that is no Ed25519 key. */
export function guidIn(key: KeyObject): string | null {
  const { x } = key.asymmetricKeyType === "ed25519" ? key.export({ format: "jwk" }) : {};
  return x === undefined ? null : guidOf(Buffer.from(x, "base64url"));
}

/** The identity in a PEM file that only its owner may read; made (mode 0600) where there is no file. */
export async function loadIdentity(path: string): Promise<Identity> {
  const { privateKey } = generateKeyPairSync("ed25519");
  try {
    const file = await open(path, "wx", 0o600);
    await file.writeFile(privateKey.export({ format: "pem", type: "pkcs8" }));
    await file.close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw failed(path, error);
  }
  try {
    return await Identity.read(path);
  } catch (error) {
    throw error instanceof IdentityError ? error : failed(path, error);
  }
}

function failed(path: string, error: unknown): IdentityError {
  return new IdentityError(`cannot use the key ${path}: ${error instanceof Error ? error.message : String(error)}`, "bad_guid");
}
