/** Whether the current path of a session lives: when to ping it, and when to give it up. Pure.
 *
 * Three clocks: what was heard, what was said, and what was acknowledged. A path that answers pings but
 * acknowledges nothing is as dead as a silent one. */

export interface SessionSettings {
  /** Bytes that may be on their way, or not yet taken by the other program; `send` waits beyond it. It
   * also bounds what the other side may make us hold. */
  readonly window: number;
  /** Seconds without a path after which a session is lost. */
  readonly resumeWindow: number;
  /** Seconds of silence after which a path is pinged. */
  readonly pingInterval: number;
  /** Seconds of silence, or without an acknowledgement, after which a path is dead. */
  readonly silenceLimit: number;
  /** Seconds for which a closed session answers a resume. */
  readonly linger: number;
}

export const SETTINGS: SessionSettings = {
  window: 8 << 20, resumeWindow: 300, pingInterval: 2, silenceLimit: 6, linger: 30,
};

const MOST_PATIENCE = 16;
/** Seconds for the other side to say something, after this one has slept. */
const WAKING = 2;

export class Liveness {
  heard = 0;
  said = 0;
  /** When something was acknowledged last, or first put on its way. */
  progress = 0;
  /** Seconds of the last answered ping on the current path. */
  roundTrip: number | null = null;
  /** Twice as much after each path on which nothing at all was acknowledged in time. */
  patience = 1;
  private pinged = 0;
  private number = 0;
  private answerDue: number | null = null;

  constructor(private readonly settings: SessionSettings, now: number) {
    this.begin(now);
  }

  begin(now: number): void {
    this.heard = this.said = this.progress = this.pinged = now;
    this.number = 0;
    this.answerDue = this.roundTrip = null;
  }

  hear(now: number): void {
    this.heard = now;
    this.answerDue = null;
  }

  advance(now: number): void {
    this.progress = now;
    this.patience = 1;
  }

  /** Note a ping; return its number. */
  ping(now: number): number {
    this.pinged = now;
    return ++this.number;
  }

  /** Note a ping on which, or on anything else, something must be heard within `timeout`. */
  probe(now: number, timeout: number): number {
    this.answerDue = Math.min(this.answerDue ?? Infinity, now + timeout);
    return this.ping(now);
  }

  /** This program has slept, or its timers were held back as in a hidden tab: its silence says nothing of
   * the path. Note a ping on which something must be heard soon. */
  woke(now: number): number {
    this.heard = this.progress = now;
    return this.probe(now, WAKING);
  }

  pong(number: number, now: number): void {
    if (number === this.number) this.roundTrip = now - this.pinged;
  }

  /** Saying nothing counts like hearing nothing: who receives a large message on a slow link has
   * nothing to acknowledge for long, and must not look dead to its sender meanwhile. */
  get pingDue(): number {
    return Math.max(Math.min(this.heard, this.said), this.pinged) + this.settings.pingInterval;
  }

  nextDeadline(needed: number | null): number {
    return Math.min(
      this.pingDue, this.heard + this.settings.silenceLimit, this.answerDue ?? Infinity, this.stalledAt(needed),
    );
  }

  /** Why the path is to be given up; null while it is not. */
  judge(now: number, needed: number | null): string | null {
    if (now >= this.heard + this.settings.silenceLimit) return `silent for ${(now - this.heard).toFixed(1)} s`;
    if (this.answerDue !== null && now >= this.answerDue) {
      return `no answer for ${(now - this.pinged).toFixed(1)} s after the network changed`;
    }
    if (now >= this.stalledAt(needed)) {
      this.patience = Math.min(this.patience * 2, MOST_PATIENCE);
      return `nothing acknowledged for ${(now - this.progress).toFixed(1)} s`;
    }
    return null;
  }

  private stalledAt(needed: number | null): number {
    return needed === null ? Infinity : this.progress + this.settings.silenceLimit + needed * this.patience;
  }
}
