/** What the two sides of a session tell one another with a request and its answer (docs/protocol.md §7,
 * the offer): signed by the side that makes it, for the one other side and the one session. */

import { concat, type Bytes } from "./bytes.js";
import { keyOf, verify, type Identity } from "./identity.js";

const SIGNATURE = 64;

async function hash(bytes: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(bytes)));
}

async function made(identity: Identity, context: string, remote: string, ...parts: Uint8Array[]): Promise<Bytes> {
  const signature = await identity.sign(context, identity.publicKey, keyOf(remote), ...parts);
  return concat(signature, parts.at(-1) as Uint8Array);
}

async function opened(
  offer: Uint8Array, context: string, maker: string, here: string, ...parts: Uint8Array[]
): Promise<Bytes | null> {
  if (offer.length < SIGNATURE) return null;
  const body = offer.slice(SIGNATURE);
  const key = keyOf(maker);
  const holds = await verify(key, offer.slice(0, SIGNATURE), context, key, keyOf(here), ...parts, body);
  return holds ? (body as Bytes) : null;
}

/** The offer that goes with a request to `remote`. */
export function makeOffer(identity: Identity, remote: string, session: Uint8Array, body: Uint8Array): Promise<Bytes> {
  return made(identity, "offer", remote, session, body);
}

/** The body of a request's offer; null where it is none of `maker` for `here` and the session. */
export function openOffer(
  offer: Uint8Array, maker: string, here: string, session: Uint8Array,
): Promise<Bytes | null> {
  return opened(offer, "offer", maker, here, session);
}

/** The offer that goes with the answer to a request whose offer was `asked`. */
export async function answerOffer(
  identity: Identity, remote: string, session: Uint8Array, asked: Uint8Array, body: Uint8Array,
): Promise<Bytes> {
  return made(identity, "offer answer", remote, session, await hash(asked), body);
}

/** The body of an answer's offer; null where it is none. */
export async function openAnswer(
  offer: Uint8Array, maker: string, here: string, session: Uint8Array, asked: Uint8Array,
): Promise<Bytes | null> {
  return opened(offer, "offer answer", maker, here, session, await hash(asked));
}
