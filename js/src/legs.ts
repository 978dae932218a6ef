/** Legs of planes: asked for with a ticket, and locked (docs/protocol.md §9, §18). */

import { base64url, utf8, type Bytes } from "./bytes.js";
import { PathFailed } from "./errors.js";
import type { Identity } from "./identity.js";
import { begin, LOCK, lock, type LockSide } from "./lock.js";
import type { Registration } from "./registration.js";
import type { Leg, Native } from "./path.js";
import { streamError, WebSocketStream } from "./stream.js";

const LOCK_SECONDS = 20;

/** The path of the URL at which a ticket is presented. */
export async function planePath(identity: Identity, relayKey: Uint8Array, ticket: string): Promise<string> {
  const signature = base64url(await identity.sign("plane", relayKey, utf8(ticket)));
  return `/v1/plane/${ticket}?guid=${identity.guid}&signature=${signature}`;
}

/** `most` bytes may wait on a leg that a session has taken: what a window allows, and is to be opened yet. */
export class Legs {
  private relayKey: Bytes | null = null;

  constructor(
    private readonly identity: Identity, private readonly url: string, private readonly registration: Registration,
    private readonly most: number, private readonly native: Native | null,
  ) {}

  /** Open the leg that a ticket is for, and lock it with the other side. */
  async open(ticket: string, side: LockSide): Promise<Leg> {
    // That of the last relay while there is none: a ticket needs no control connection.
    this.relayKey = this.registration.current?.relayKey ?? this.relayKey;
    if (this.relayKey === null) throw new PathFailed("this peer was never attached");
    const { native } = this;
    const isOurs = side.agreed.lock === LOCK || native === null;
    const [place, begun] = await Promise.all([
      planePath(this.identity, this.relayKey, ticket), isOurs ? begin(side) : null,
    ]);
    const early = begun?.first.length ? `&early=${base64url(begun.first)}` : "";
    const stream = await WebSocketStream.open(`${this.url}${place}${early}`, true);
    const timer = setTimeout(() => stream.close(), LOCK_SECONDS * 1000);
    try {
      const path = begun ? await lock(stream, side, begun, stream.isPage) : await (native as Native).secure(stream, side);
      return { path, ticket: stream.resumeTicket || null, admit: () => (stream.most = this.most) };
    } catch (error) {
      stream.close();
      throw stream.refusal ? streamError(stream) : error;
    } finally {
      clearTimeout(timer);
    }
  }
}
