/** What there is in Node alone: keys in files, the same as `peer key` makes. */

import { createPublicKey, createPrivateKey, generateKeyPairSync } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { IdentityError } from "./errors.js";
import { Identity } from "./identity.js";

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
    const file = await open(path, "r");
    const { mode } = await file.stat();
    await file.close();
    if (mode & 0o077) throw new IdentityError(`${path} may be read by others than its owner: chmod 600`, "bad_guid");
    const key = createPrivateKey(await readFile(path));
    if (createPublicKey(key).asymmetricKeyType !== "ed25519") throw new IdentityError(`${path} holds no Ed25519 key`, "bad_guid");
    return await Identity.fromSeed(key.export({ format: "der", type: "pkcs8" }).subarray(-32));
  } catch (error) {
    throw error instanceof IdentityError ? error : failed(path, error);
  }
}

function failed(path: string, error: unknown): IdentityError {
  return new IdentityError(`cannot use the key ${path}: ${error instanceof Error ? error.message : String(error)}`, "bad_guid");
}
