/** A service that this peer offers, and the sessions that others have opened to it. */

import type { Bytes } from "./bytes.js";
import type { Session, Waiting } from "./session.js";
import { Queue } from "./session/queue.js";
import { unless, Waiters } from "./time.js";

/** Who asks for a session, and what they say of it. */
export interface SessionRequest {
  readonly remote: string;
  readonly service: string;
  readonly metadata: Bytes;
}

/** Whether a session is taken: true, false, or no in words for the other side. Asked before it begins. */
export type Select = (request: SessionRequest) => boolean | string | Promise<boolean | string>;

export interface ListenOptions extends Waiting {
  readonly select?: Select;
}

/** Sessions that may wait for the program, and those of one other side among them. */
const BACKLOG = 32, BACKLOG_OF_ONE = 8;

export class Listener implements AsyncIterable<Session> {
  private readonly waiting = new Queue<Session>();
  private readonly changes = new Waiters();
  private isClosed = false;

  /** Made by `Peer.listen`.
   * @internal */
  constructor(readonly service: string, readonly select: Select | null, private readonly onClosed: () => void) {}

  /** The next session that others have opened; null once the listener is closed. */
  async accept({ signal }: Waiting = {}): Promise<Session | null> {
    for (;;) {
      signal?.throwIfAborted();
      const session = this.waiting.shift();
      if (session) return session;
      if (this.isClosed) return null;
      await unless(signal, this.changes.changed());
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Session> {
    for (let session = await this.accept(); session !== null; session = await this.accept()) yield session;
  }

  /** Offer the service no more. Sessions that were accepted go on; those that wait are ended. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const session of this.waiting.toArray()) session.abort("the service was closed");
    this.waiting.clear();
    this.onClosed();
    this.changes.wake();
  }

  /** @internal */
  hasRoom(remote: string): boolean {
    const waiting = this.waiting.toArray();
    return waiting.length < BACKLOG && waiting.filter((one) => one.remote === remote).length < BACKLOG_OF_ONE;
  }

  /** @internal */
  add(session: Session): void {
    this.waiting.push(session);
    this.changes.wake();
  }
}

