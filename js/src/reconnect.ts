/** When a peer comes back to its relay (docs/protocol.md §5): what has ended and chance in, a pause out.
 * Pure. Times are seconds. */

import type { Code } from "./errors.js";

/** How far a connection had come: nobody has proven to be the relay; it has, and has not registered this
 * peer; or it has done that. */
export type Stage = "unproven" | "handshake" | "registered";

export interface Ended {
  readonly stage: Stage;
  /** For how long it was registered. */
  readonly lasted: number;
  readonly code: Code | null;
  readonly reason: string;
  readonly retryAfter: number | null;
  readonly restarting: { readonly delay: number; readonly spread: number } | null;
}

export interface Pause {
  readonly seconds: number;
  /** What of it nobody cuts short. */
  readonly atLeast: number;
}

const RETURN_IDLE = 5, RETURN_URGENT = 1;
const SHORTEST = 0.05, FIRST_WAIT = 0.5, LONGEST_WAIT = 30, SOON = 5, LONGEST_REST = 15;
const LONGEST_TOLD: { readonly [S in Stage]: number } = { unproven: 30, handshake: 600, registered: 600 };
const OWN_FAULTS: readonly (Code | null)[] = [
  "bad_message", "message_too_large", "unexpected_message", "version_unsupported", "bad_guid", "bad_signature",
];

export class Reconnect {
  private failures = 0;
  private sentAway = 0;
  private everRegistered = false;

  /** The next pause; null where this peer must not come back. `urgent` says that somebody waits for the
   * relay, `chance` is from 0 to 1. */
  after(ended: Ended, urgent: boolean, chance: number): Pause | null {
    if (ended.stage === "registered") {
      this.everRegistered = true;
      this.failures = 0;
      this.sentAway = ended.lasted < SOON ? this.sentAway + 1 : 0;
    } else this.failures += 1;
    if (this.isFinal(ended)) return null;
    if (ended.restarting) {
      const { delay, spread } = ended.restarting;
      return told(Math.min(delay, 600) + chance * Math.min(spread, 600));
    }
    if (ended.retryAfter !== null) {
      return told(Math.min(ended.retryAfter, LONGEST_TOLD[ended.stage]) * (1 + 0.25 * chance));
    }
    // Another program had the key, and a clock that is ahead: now this one knows by how much.
    if (ended.code === "stale_sequence" && this.failures === 1) return { seconds: SHORTEST, atLeast: SHORTEST };
    const longest = urgent ? RETURN_URGENT : LONGEST_WAIT;
    if (this.sentAway > 1) {
      const rest = Math.min(FIRST_WAIT * 2 ** (this.sentAway - 2), urgent ? RETURN_URGENT : LONGEST_REST);
      return { seconds: rest * (1 + chance / 2), atLeast: Math.min(rest, RETURN_URGENT) };
    }
    if (ended.stage === "registered") {
      return { seconds: Math.max(SHORTEST, chance * (urgent ? RETURN_URGENT : RETURN_IDLE)), atLeast: SHORTEST };
    }
    const most = Math.min(FIRST_WAIT * 2 ** Math.min(this.failures - 1, 10), longest);
    return { seconds: most * (0.5 + chance / 2), atLeast: SHORTEST };
  }

  private isFinal({ stage, code, retryAfter }: Ended): boolean {
    // Nobody has proven to be the relay: whoever stands in the way may have said it.
    if (stage === "unproven") return false;
    if (code === "superseded" || (code === "not_admitted" && retryAfter === null)) return true;
    return stage === "handshake" && !this.everRegistered && OWN_FAULTS.includes(code);
  }
}

function told(seconds: number): Pause {
  return { seconds: Math.max(seconds, SHORTEST), atLeast: Math.max(seconds, SHORTEST) };
}
