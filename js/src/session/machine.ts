/** The session's machine: numbers, acknowledgements, window, resume, clean close (docs/protocol.md §11).
 * Pure: bytes and times in, bytes and events out. `now` is any clock that only grows, in seconds.
 *
 * A session outlives its paths: `attach` begins a new one, `detach` ends it, and what the other side
 * has not received is sent again on the next. It does not know which side of the session it is on. */

import { concat, NOTHING, type Bytes } from "../bytes.js";
import { codeOf, ProtocolViolation, type Code } from "../errors.js";
import { pack, type Value } from "../messagepack.js";
import type { SignedEntry } from "../messages.js";
import {
  ABORT, ACK, areCounts, CLOSE, CLOSED, DATA, FINISH, FrameReader, LOCATION, MAX_PAYLOAD, PART, PING, PONG, SWITCH,
} from "./frames.js";
import { Incoming } from "./incoming.js";
import { Liveness, type SessionSettings } from "./liveness.js";
import { NO_EARLY, Outgoing, type Early } from "./outgoing.js";
import { isEstablished, isOver, isWritable, TRANSITIONS, type Input, type State } from "./states.js";

export type Event =
  | { readonly what: "path dead"; readonly reason: string }
  | { readonly what: "location"; readonly entries: readonly SignedEntry[] }
  | { readonly what: "ended"; readonly reason: string | null; readonly code: Code | null };

/** The numbers of a side, as hello and welcome say them. */
export interface Numbers {
  readonly received: number;
  readonly consumed: number;
  readonly window: number;
  readonly partial: number;
}

const WRITE_BYTES = 65_536;
/** A part may wait so long for its acknowledgement, on a path that has brought a mebibyte. */
const ACK_SECONDS = 0.005;
const EACH_UP_TO = 1 << 20;

export class SessionMachine {
  state: State = "open";
  attached = false;
  readonly liveness: Liveness;
  readonly incoming: Incoming;
  readonly outgoing = new Outgoing();
  private revised: boolean | null = null;
  private reader = new FrameReader(false);
  private consumedThere = 0;
  private windowThere = 0;
  private events: Event[] = [];
  /** The last frame of each kind but DATA, ACK and CLOSE: who asks faster than they read gets fewer
   * answers, and costs no memory. */
  private readonly control = new Map<number, Bytes>();
  private lastDue: typeof CLOSE | typeof FINISH | null = null;
  private ackDue = false;
  private ackAt: number | null = null;
  private ackSaid = 0;
  private eachUntil = 0;
  private toldConsumed = 0;
  private pathlessSince: number;
  private closingSince: number;

  constructor(readonly settings: SessionSettings, now: number) {
    this.incoming = new Incoming(settings.window);
    this.liveness = new Liveness(settings, now);
    this.pathlessSince = this.closingSince = now;
  }

  // -- the program ------------------------------------------------------------------------------

  /** What a hello or welcome says of this side. */
  get numbers(): Numbers {
    const { received, consumed, partial } = this.incoming;
    return { received, consumed, partial, window: this.settings.window };
  }

  /** Whether the windows of both sides have room for another message. */
  get hasRoom(): boolean {
    return this.outgoing.weight - this.consumedThere < this.window;
  }

  get isWritable(): boolean {
    return isWritable(this.state);
  }

  get isOver(): boolean {
    return isOver(this.state);
  }

  /** Whether nothing more will come into the inbox. */
  get isDrained(): boolean {
    return this.incoming.endedAt !== null || this.isOver;
  }

  /** Whether the other side knows of a direction that ends by itself. */
  get mayFinish(): boolean {
    return this.revised === true;
  }

  /** Queue one message. Look at `isWritable` and `hasRoom` first. */
  send(payload: Bytes): void {
    if (payload.length > MAX_PAYLOAD) throw new RangeError(`a message has at most ${MAX_PAYLOAD} bytes`);
    if (!this.isWritable) throw new Error(`a message to a session that is ${this.state}`);
    this.outgoing.send(payload);
  }

  /** Take the next message; undefined where there is none. */
  take(): Bytes | undefined {
    const payload = this.incoming.take();
    if (this.incoming.consumed - this.toldConsumed >= this.window / 8) this.ackDue = true;
    return payload;
  }

  finish(now: number): void {
    if (this.mayFinish) this.move("finish here", now);
  }

  close(now: number): void {
    this.move("close here", now);
  }

  /** End the session at once; the other side is told if there is a path. */
  abort(code: Code, reason: string, now: number): void {
    if (this.isOver) return;
    if (this.attached) this.say(ABORT, code, reason.slice(0, 200));
    this.lose(reason, code, now);
  }

  // -- paths ------------------------------------------------------------------------------------

  /** Refuse numbers that cannot be true, or another revision than before. Nothing has changed then. */
  check(there: Numbers, revised: boolean): void {
    if (this.revised !== null && this.revised !== revised) {
      throw new ProtocolViolation("another revision than on the path before");
    }
    this.outgoing.check(there.received, there.consumed, revised ? there.partial : 0);
  }

  /** What may leave behind a hello, to a side that takes that; nothing where a path delivers. Hand it to
   * `attach` where the hello was welcomed. */
  early(now: number): Early {
    if (this.attached || !this.revised || this.state === "lost") return NO_EARLY;
    return this.outgoing.early(this.liveness.patience, now);
  }

  /** Begin on a new path, with the other side's numbers; `early` stands behind our own hello. */
  attach(there: Numbers, revised: boolean, now: number, early = NO_EARLY): void {
    this.check(there, revised);
    this.consumedThere = Math.max(this.consumedThere, there.consumed);
    this.outgoing.acknowledge(there.received, revised ? there.partial : 0, now);
    this.revised = revised;
    this.windowThere = there.window;
    this.control.clear();
    this.liveness.begin(now);
    this.outgoing.begin(revised, this.liveness.patience);
    this.outgoing.goOnBehind(early);
    this.incoming.heard();
    this.reader = new FrameReader(revised);
    this.ackDue = true;
    this.ackAt = null;
    this.eachUntil = this.incoming.arrived + EACH_UP_TO;
    this.attached = true;
    // What a lost path may have swallowed is said again.
    if (this.state === "half-closed (local)") this.lastDue = FINISH;
    else if (!isEstablished(this.state)) this.lastDue = CLOSE;
    if (this.state === "answering" || this.state === "closed") this.say(CLOSED, this.incoming.received);
  }

  /** Give the path up. A path that was silent for long was none since then. */
  detach(now: number): void {
    if (!this.attached) return;
    this.attached = false;
    this.pathlessSince = Math.min(now, this.liveness.heard + this.settings.silenceLimit);
  }

  /** Take bytes from the current path. Throws `ProtocolViolation`; the session is lost then. */
  receive(data: Uint8Array, now: number): void {
    if (!this.attached || this.state === "lost") return;
    this.liveness.hear(now);
    this.incoming.heard();
    try {
      for (const frame of this.reader.read(data)) {
        this.receiveFrame(frame, now);
        if ((this.state as State) === "lost") return; // What stands behind an abort is not looked at.
      }
    } catch (error) {
      if (error instanceof ProtocolViolation) this.abort(error.code ?? "bad_message", error.message, now);
      throw error;
    }
  }

  /** The next bytes for the current path; empty when idle, and when more should wait. */
  dataToSend(now: number): Bytes {
    if (!this.attached) return NOTHING;
    const pieces = [...this.control.values()];
    this.control.clear();
    if (this.ackDue) {
      this.ackDue = false;
      this.ackAt = null;
      this.ackSaid = now;
      this.toldConsumed = this.incoming.consumed;
      const { received, consumed, partial } = this.incoming;
      pieces.push(pack(this.revised ? [ACK, received, consumed, partial] : [ACK, received, consumed]));
    }
    const outgoing = this.outgoing;
    if (this.state !== "lost") {
      if (outgoing.hasUnsent && outgoing.pace.isIdle) this.liveness.progress = now;
      for (let room = outgoing.room(WRITE_BYTES); outgoing.hasUnsent && room > 0;) {
        const frame = outgoing.frame(now);
        room -= frame.length;
        pieces.push(frame);
      }
      if (this.lastDue !== null && !outgoing.hasUnsent) {
        pieces.push(pack([this.lastDue, outgoing.sent]));
        this.lastDue = null;
      }
    }
    if (pieces.length) this.liveness.said = now;
    return concat(...pieces);
  }

  takeEvents(): Event[] {
    const events = this.events;
    this.events = [];
    return events;
  }

  // -- time -------------------------------------------------------------------------------------

  /** Ping the current path; it is dead unless something is heard within `timeout` seconds. */
  probe(now: number, timeout: number): void {
    if (this.attached && !this.isOver) this.say(PING, this.liveness.probe(now, timeout));
  }

  /** Say where this side can be dialed from now on. */
  tell(entries: readonly Value[]): void {
    if (this.attached && !this.isOver) this.say(LOCATION, entries);
  }

  /** What was due long ago is handled only now. A path whose session may be lost there is none. */
  woke(now: number): void {
    const { silenceLimit, resumeWindow } = this.settings;
    if (this.attached && !this.isOver && now < this.liveness.heard + silenceLimit + resumeWindow) {
      this.say(PING, this.liveness.woke(now));
    }
  }

  /** When `handleTimeout` must be called next; null when never. */
  get nextTimeout(): number | null {
    if (this.isOver) return null;
    if (!this.attached) return this.pathlessSince + this.settings.resumeWindow;
    const when = Math.min(this.liveness.nextDeadline(this.outgoing.pace.secondsNeeded), this.ackAt ?? Infinity);
    return isEstablished(this.state) ? when : Math.min(when, this.closeDeadline);
  }

  /** Ping, give a dead path up, or give the session up, as the time says. */
  handleTimeout(now: number): void {
    if (this.isOver) return;
    if (this.ackAt !== null && now >= this.ackAt) {
      this.ackAt = null;
      this.ackDue = true;
    }
    const window = this.settings.resumeWindow;
    if (this.attached) {
      if (!isEstablished(this.state) && now >= this.closeDeadline) {
        this.abort("request_timeout", `the close was not answered for ${window} s`, now);
        return;
      }
      const dead = this.liveness.judge(now, this.outgoing.pace.secondsNeeded);
      if (dead !== null) {
        this.detach(now);
        this.events.push({ what: "path dead", reason: dead });
      } else if (now >= this.liveness.pingDue) this.say(PING, this.liveness.ping(now));
    }
    if (!this.attached && now >= this.pathlessSince + window) this.lose(`no path for ${window} s`, null, now);
  }

  // -- inside -----------------------------------------------------------------------------------

  private get window(): number {
    // The same on both sides. Nothing fits before the other side has said what it can hold.
    return Math.min(this.settings.window, this.windowThere);
  }

  private get closeDeadline(): number {
    // Without it, a side that answers pings but no close would keep this one from ending.
    return Math.max(this.closingSince, this.liveness.progress) + this.settings.resumeWindow;
  }

  private say(kind: number, ...fields: readonly Value[]): void {
    this.control.set(kind, pack([kind, ...fields]));
  }

  private receiveFrame(frame: readonly Value[], now: number): void {
    const [kind, one, two, three, four] = frame;
    const fields = frame.length - 1;
    const { incoming, revised } = this;
    if (kind !== DATA && kind !== PART && kind !== ACK) incoming.note();
    if (kind === DATA && fields === 2 && areCounts(one) && Array.isArray(two)) {
      if (incoming.data(one as number, two as readonly Value[])) this.ackDue = true;
    } else if (kind === PART && revised && fields === 4 && areCounts(one, two, three) && four instanceof Uint8Array) {
      if (incoming.takePart(one as number, two as number, three as number, four)) this.ackDue = true;
      if (now >= this.ackSaid + ACK_SECONDS || incoming.arrived < this.eachUntil) this.ackDue = true;
      else this.ackAt = this.ackSaid + ACK_SECONDS;
    } else if (kind === ACK && fields === (revised ? 3 : 2) && areCounts(one, two, three ?? 0)) {
      this.acknowledge(one as number, two as number, (three ?? 0) as number, now);
    } else if (kind === CLOSE && fields === 1 && areCounts(one)) {
      incoming.end(one as number);
      this.say(CLOSED, incoming.received);
      this.move("close there", now);
    } else if (kind === CLOSED && fields === 1 && areCounts(one)) {
      if (one !== this.outgoing.sent) throw new ProtocolViolation(`closed at ${one}, but ${this.outgoing.sent} were sent`);
      this.acknowledge(one as number, 0, 0, now);
      this.move("closed there", now);
    } else if (kind === PING && fields === 1 && areCounts(one) && (one as number) < 2 ** 32) this.say(PONG, one as number);
    else if (kind === PONG && fields === 1 && typeof one === "number") this.liveness.pong(one, now);
    else if (kind === ABORT && fields === 2 && typeof one === "string" && typeof two === "string") {
      this.lose(`the other side ended it: ${two.slice(0, 200)} (${one.slice(0, 64)})`, codeOf(one), now);
    } else if (kind === LOCATION && fields === 1 && isLocation(one)) {
      const entries = (one as unknown as [Bytes, Bytes][]).map(([body, signature]) => ({ body, signature }));
      if (entries.length) this.events.push({ what: "location", entries });
    } else if (kind === FINISH && revised && fields === 1 && areCounts(one)) {
      incoming.end(one as number);
      this.move("finish there", now);
    } else if (kind === SWITCH && revised && fields === 1 && areCounts(one) && one !== 0 && (one as number) < 2 ** 32) {
      // Passed over on the session's own path.
    } else throw new ProtocolViolation("not a session frame");
  }

  private acknowledge(received: number, consumed: number, partial: number, now: number): void {
    this.outgoing.check(received, consumed, partial);
    if (this.outgoing.acknowledge(received, partial, now)) this.liveness.advance(now);
    else if (consumed <= this.consumedThere) this.incoming.note();
    this.consumedThere = Math.max(this.consumedThere, consumed);
  }

  private lose(reason: string, code: Code | null, now: number): void {
    if (!this.isOver) this.move("lose", now, reason, code);
  }

  private move(cause: Input, now: number, reason: string | null = null, code: Code | null = null): void {
    const before = this.state;
    const after = TRANSITIONS[before][cause];
    if (after === null) throw new ProtocolViolation(`${cause} in state ${before}`);
    if (isEstablished(before) && after !== before) {
      if (after === "half-closed (local)") this.lastDue = FINISH;
      else if (!isEstablished(after)) {
        this.lastDue = CLOSE;
        this.closingSince = now;
      }
    }
    this.state = after;
    if (after !== before && isOver(after)) {
      this.incoming.drop();
      this.events.push({ what: "ended", reason, code });
    }
  }
}

function isLocation(value: Value | undefined): boolean {
  return Array.isArray(value) && value.length <= 16 && (value as readonly Value[]).every((entry) => {
    if (!Array.isArray(entry) || entry.length !== 2) return false;
    const [body, signature] = entry as readonly Value[];
    return body instanceof Uint8Array && body.length <= 256 && signature instanceof Uint8Array && signature.length === 64;
  });
}
