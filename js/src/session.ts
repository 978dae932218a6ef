/** A session, as a program sees it: messages each way that arrive exactly once and in order, whatever
 * happens to paths. */

import { copied, type Bytes } from "./bytes.js";
import { SessionClosed, SessionLost } from "./errors.js";
import { LOCK, type LockWord } from "./lock.js";
import type { Mode } from "./messages.js";
import type { PathKind } from "./path.js";
import type { Route, TraceEvent } from "./route.js";
import { MAX_PAYLOAD } from "./session/frames.js";
import { Queue } from "./session/queue.js";
import { Deferred, now, pause, unless } from "./time.js";

export interface Waiting {
  readonly signal?: AbortSignal;
}

/** The path of the moment; its reason where there is none. */
export interface PathState {
  readonly path: PathKind | null;
  readonly reason: string;
}

export interface Explanation {
  readonly remote: string;
  readonly service: string;
  readonly mode: Mode;
  readonly state: string;
  readonly path: PathKind | null;
  /** What the path is locked by, or the last one was; a page takes `noise` alone. */
  readonly lock: LockWord;
  /** Seconds; null before anything was measured. */
  readonly roundTrip: number | null;
  readonly sent: number;
  readonly acknowledged: number;
  readonly received: number;
  readonly trace: readonly TraceEvent[];
}

interface Sending {
  readonly payload: Bytes;
  readonly done: Deferred<void>;
  isGone: boolean;
}

const CLOSE_SECONDS = 10;

export class Session implements AsyncIterable<Bytes> {
  private readonly sending = new Queue<Sending>();

  /** Made by `Peer.connect` and by listeners.
   * @internal */
  constructor(private readonly route: Route, readonly metadata: Bytes) {
    void this.feed();
  }

  /** The other side. */
  get remote(): string {
    return this.route.terms.remote;
  }

  get service(): string {
    return this.route.terms.service;
  }

  get mode(): Mode {
    return this.route.terms.mode;
  }

  get path(): PathState {
    return { path: this.route.path?.kind ?? null, reason: this.route.pathReason };
  }

  /** Send one message of up to 1 MiB; a text goes as UTF-8. Resolves once the session has taken it:
   * while the window is full, it waits. Awaiting is what keeps a fast sender from filling memory. */
  async send(message: Uint8Array | string, { signal }: Waiting = {}): Promise<void> {
    signal?.throwIfAborted();
    const payload = copied(message);
    if (payload.length > MAX_PAYLOAD) throw new RangeError(`a message has at most ${MAX_PAYLOAD} bytes, not ${payload.length}`);
    this.check();
    const { machine } = this.route;
    if (!this.sending.length && machine.hasRoom) {
      machine.send(payload);
      this.route.act();
      return;
    }
    const one: Sending = { payload, done: new Deferred(), isGone: false };
    this.sending.push(one);
    try {
      await unless(signal, one.done.promise);
    } finally {
      one.isGone = true;
    }
  }

  /** The next message; null where the other side has closed or finished, and all has been taken. */
  async receive({ signal }: Waiting = {}): Promise<Bytes | null> {
    const { route } = this;
    for (;;) {
      signal?.throwIfAborted();
      const message = route.machine.take();
      if (message !== undefined) {
        route.act();
        return message;
      }
      if (route.outcome instanceof SessionLost) throw route.outcome;
      if (route.machine.isDrained) return null;
      await unless(signal, route.changes.changed());
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Bytes> {
    for (let message = await this.receive(); message !== null; message = await this.receive()) yield message;
  }

  /** How the path is, and each change of that; ends with the session. */
  async *paths({ signal }: Waiting = {}): AsyncGenerator<PathState> {
    for (let last: PathState | null = null; ;) {
      const { path } = this;
      if (last === null || last.path !== path.path || last.reason !== path.reason) yield (last = path);
      if (this.route.outcome !== null) return;
      await unless(signal, this.route.changes.changed());
    }
  }

  /** End this direction; the other side goes on. Resolves once all messages before it were taken. */
  async finish({ signal }: Waiting = {}): Promise<void> {
    await this.flush(signal);
    if (!this.route.machine.mayFinish) throw new SessionClosed("the other side knows no direction that ends by itself");
    this.route.machine.finish(now());
    this.route.act();
  }

  /** Close: all that either side has sent before arrives. Throws `SessionLost` where nothing was
   * acknowledged for `timeout` seconds. */
  async close({ timeout = CLOSE_SECONDS, signal }: Waiting & { readonly timeout?: number } = {}): Promise<void> {
    const { route } = this;
    const { machine } = route;
    const began = now();
    const late = () => Math.max(began, machine.liveness.progress) + timeout - now();
    let isSaid = false;
    while (route.outcome === null) {
      signal?.throwIfAborted();
      if (!isSaid && !this.sending.length) {
        isSaid = true;
        machine.close(now());
        route.act();
        continue;
      }
      if (late() <= 0) route.lose(`the close was not answered for ${timeout} s`, "request_timeout");
      else await unless(signal, pause(late(), route.changes.changed()));
    }
    if (route.outcome instanceof SessionLost) throw route.outcome;
  }

  /** End the session at once, without regard for what is under way. */
  abort(reason = "aborted"): void {
    this.route.lose(reason, "refused");
  }

  /** Settles when the session is over: resolves after a clean close, rejects with `SessionLost`. */
  async closed({ signal }: Waiting = {}): Promise<void> {
    const { route } = this;
    while (route.outcome === null) await unless(signal, route.changes.changed());
    if (route.outcome instanceof SessionLost) throw route.outcome;
  }

  /** What is known of it, for people who ask why. */
  explain(): Explanation {
    const { terms, machine, path, agreed, trace } = this.route;
    return {
      remote: terms.remote, service: terms.service, mode: terms.mode, state: machine.state,
      path: path?.kind ?? null, lock: path?.lock ?? agreed?.lock ?? LOCK, roundTrip: machine.liveness.roundTrip,
      sent: machine.outgoing.sent, acknowledged: machine.outgoing.acknowledged,
      received: machine.incoming.received, trace: [...trace],
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.route.outcome === null) await this.close();
  }

  private check(): void {
    const { outcome, machine } = this.route;
    if (outcome instanceof SessionLost) throw outcome;
    if (!machine.isWritable) throw new SessionClosed(`the session is ${machine.state}`);
  }

  private async flush(signal?: AbortSignal): Promise<void> {
    while (this.sending.length) {
      this.check();
      await unless(signal, this.route.changes.changed());
    }
    this.check();
  }

  /** Give what waits to the session, in its order, as there is room. */
  private async feed(): Promise<void> {
    const { route, sending } = this;
    for (;;) {
      const changed = route.changes.changed();
      const { machine } = route;
      let fed = false;
      for (let one = sending.at(0); one; one = sending.at(0)) {
        if (!one.isGone) {
          if (route.outcome !== null || !machine.isWritable) {
            one.done.reject(route.outcome instanceof SessionLost ? route.outcome : new SessionClosed("the session was closed"));
          } else if (machine.hasRoom) {
            machine.send(one.payload);
            one.done.resolve();
            fed = true;
          } else break;
        }
        sending.shift();
      }
      if (fed) route.act();
      if (route.outcome !== null) return;
      await changed;
    }
  }
}
