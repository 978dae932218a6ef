/** This peer at its relay: attached, away and coming back, or over. What it offers is said anew each
 * time, and who it watches. */

import { random, type Bytes } from "./bytes.js";
import { ControlConnection, endedError } from "./control.js";
import { PeerClosed, type RoamRelayError } from "./errors.js";
import type { Identity } from "./identity.js";
import type { Invitation } from "./invitation.js";
import { pack, type Value } from "./messagepack.js";
import type { Control } from "./messages.js";
import type { Pin } from "./pin.js";
import { Reconnect } from "./reconnect.js";
import { Deferred, now, pause, unless, Waiters } from "./time.js";

/** How this peer stands with its relay. */
export type Status =
  | { readonly state: "online"; readonly relay: string }
  | { readonly state: "away"; readonly reason: string; readonly error: RoamRelayError | null }
  | { readonly state: "over"; readonly error: RoamRelayError };

export interface Place {
  readonly identity: Identity;
  /** `ws://HOST:PORT` or `wss://HOST:PORT`. */
  readonly url: string;
  readonly pin: Pin;
  readonly invitation: Invitation | null;
  readonly agent: string;
}

const HUNDRED_YEARS = 100 * 365.25 * 86_400_000;

export class Registration {
  status: Status = { state: "away", reason: "not attached yet", error: null };
  /** The connection of now; null while there is none. */
  current: ControlConnection | null = null;
  readonly changes = new Waiters();
  private readonly reconnect = new Reconnect();
  private readonly ending = new AbortController();
  private readonly ended = new Deferred<void>();
  private readonly hurries = new Waiters();
  private readonly instance = random(16);
  private seq = 0;
  private known = 0;
  private inForce = 0;
  private isUrgent: () => boolean = () => false;

  constructor(
    private readonly place: Place, private readonly services: (seq: number) => Value[],
    private readonly told: (message: Control, from: ControlConnection) => void,
  ) {}

  /** Come, and come back until `close`; `isUrgent` says whether somebody waits for the relay. */
  start(isUrgent: () => boolean): void {
    this.isUrgent = isUrgent;
    void this.run();
  }

  /** The connection, as soon as there is one. Throws where there will be none. */
  async ready(signal?: AbortSignal): Promise<ControlConnection> {
    while (this.current === null) {
      if (this.status.state === "over") throw this.status.error;
      await unless(signal, this.changes.changed());
    }
    return this.current;
  }

  /** The first attempt is over, and has worked. Throws why not. One that has told how far another
   * program's numbers are is followed by a second. */
  async first(signal?: AbortSignal): Promise<void> {
    while (this.current === null) {
      const error = this.status.state === "online" ? null : this.status.error;
      if (error && error.code !== "stale_sequence") throw error;
      await unless(signal, this.changes.changed());
    }
  }

  /** Somebody waits for the relay. */
  hurry(): void {
    this.hurries.wake();
  }

  /** The network may have changed: see whether the relay still answers, or come back at once. */
  moved(): void {
    this.hurries.wake();
    this.current?.doubt(2);
  }

  /** What is offered has changed. */
  update(): void {
    this.current?.say({ type: "update", location: this.record() });
  }

  /** The relay has all that is offered now. */
  async published(signal?: AbortSignal): Promise<void> {
    for (const wanted = this.seq; this.inForce < wanted || this.current === null;) {
      if (this.status.state === "over") throw this.status.error;
      await unless(signal, this.changes.changed());
    }
  }

  close(): void {
    this.settle({ state: "over", error: new PeerClosed("the peer was closed") });
    this.ending.abort(new PeerClosed("the peer was closed"));
    this.ended.resolve();
  }

  private record(): Bytes {
    this.seq = Math.max(this.seq + 1, this.known + 1, Date.now());
    return pack({ seq: this.seq, services: this.services(this.seq) });
  }

  private async run(): Promise<void> {
    const { url, ...place } = this.place;
    const speaker = { ...place, instance: this.instance, record: () => this.record() };
    const { signal } = this.ending;
    while (!signal.aborted) {
      let came;
      try {
        came = await ControlConnection.attach(url, speaker, (message, from) => this.hear(message, from), signal);
      } catch {
        return; // Nothing is thrown but the signal's reason.
      }
      if (came instanceof ControlConnection) {
        this.current = came;
        this.settle({ state: "online", relay: url });
        const ended = await came.ended;
        this.current = null;
        came = ended;
      }
      if (signal.aborted) return;
      const wait = this.reconnect.after(came, this.isUrgent(), Math.random());
      if (wait === null) {
        this.settle({ state: "over", error: endedError(came) });
        return;
      }
      this.settle({ state: "away", reason: came.reason, error: endedError(came) });
      await this.rest(wait.seconds, wait.atLeast);
    }
  }

  private async rest(seconds: number, atLeast: number): Promise<void> {
    const until = now() + seconds;
    const hurried = this.hurries.changed();
    await pause(atLeast, this.ended.promise);
    if (!this.ending.signal.aborted) await pause(Math.max(0, until - now()), hurried, this.ended.promise);
  }

  private hear(message: Control, from: ControlConnection): void {
    if (message.type === "error") {
      const { code, seq } = message;
      if (code !== "stale_sequence") return;
      // A relay that lies cannot use the numbers up.
      if (seq !== null && seq < Date.now() + HUNDRED_YEARS) this.known = Math.max(this.known, seq);
      this.update();
      return;
    }
    if (message.type === "registered") {
      this.inForce = message.seq;
      this.changes.wake();
    }
    this.told(message, from);
  }

  private settle(status: Status): void {
    if (this.status.state === "over") return;
    this.status = status;
    this.changes.wake();
  }
}
