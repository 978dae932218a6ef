/** The request for a leg of a plane (docs/protocol.md §9). */

import { base64url, utf8 } from "./bytes.js";
import type { Identity } from "./identity.js";

/** The path of the URL at which a ticket is presented. */
export async function planePath(identity: Identity, relayKey: Uint8Array, ticket: string): Promise<string> {
  const signature = base64url(await identity.sign("plane", relayKey, utf8(ticket)));
  return `/v1/plane/${ticket}?guid=${identity.guid}&signature=${signature}`;
}
