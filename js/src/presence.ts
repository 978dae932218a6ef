/** Who is watched, and how they are. Watches end with the connection, and are said anew on the next. */

import type { Message, PeerState } from "./messages.js";
import type { Registration } from "./registration.js";
import { unless, Waiters } from "./time.js";

/** How another peer stands. */
export interface Presence {
  readonly guid: string;
  /** `unknown` while this peer has no relay, or the relay does not tell. */
  readonly state: PeerState | "unknown";
  /** Seconds, at that moment, since anything was heard of it; null where that is not known. */
  readonly lastSeen: number | null;
  /** Grows when it has moved, or offers something else. */
  readonly seq: number;
}

class Watched {
  readonly changes = new Waiters();
  presence: Presence;
  count = 0;

  constructor(readonly guid: string) {
    this.presence = { guid, state: "unknown", lastSeen: null, seq: 0 };
  }

  set(presence: Presence): void {
    this.presence = presence;
    this.changes.wake();
  }
}

export class Presences {
  private readonly watched = new Map<string, Watched>();

  constructor(private readonly registration: Registration) {
    void this.follow();
  }

  async *watch(guid: string, signal?: AbortSignal): AsyncGenerator<Presence> {
    const one = this.watched.get(guid) ?? new Watched(guid);
    if (one.count++ === 0) {
      this.watched.set(guid, one);
      this.registration.current?.say({ type: "watch", guid });
    }
    try {
      for (let last: Presence | null = null; ;) {
        const changed = one.changes.changed();
        const { status } = this.registration;
        if (status.state === "over") throw status.error;
        // What is not known yet is not told first.
        if (one.presence !== last && !(last === null && one.presence.state === "unknown")) yield (last = one.presence);
        if (one.presence === last || last === null) await unless(signal, changed);
      }
    } finally {
      if (--one.count === 0) {
        this.watched.delete(guid);
        this.registration.current?.say({ type: "watch", guid, watching: false });
      }
    }
  }

  /** Each time that the relay says that a peer is there: anew when it has moved, or offers something else. */
  async *comings(guid: string, signal: AbortSignal): AsyncGenerator<Presence> {
    for await (const presence of this.watch(guid, signal)) if (presence.state === "online") yield presence;
  }

  hear({ guid, state, last_seen, seq, code }: Message<"peer_event">): void {
    const one = this.watched.get(guid);
    one?.set({ guid, state: code === null ? state : "unknown", lastSeen: last_seen, seq });
  }

  private async follow(): Promise<void> {
    const { registration } = this;
    for (let last = registration.current; ;) {
      await registration.changes.changed();
      const { current, status } = registration;
      if (status.state === "over") {
        for (const one of this.watched.values()) one.changes.wake();
        return;
      }
      if (current === last) continue;
      last = current;
      for (const one of this.watched.values()) {
        if (current) current.say({ type: "watch", guid: one.guid });
        else one.set({ ...one.presence, state: "unknown" });
      }
    }
  }
}
