/** How one session gets its paths: the one of now, the search for the next, and what both make of the
 * session's machine. Decisions are the machine's and `isNewer`'s; this carries them out. */

import { concat, toHex, type Bytes } from "./bytes.js";
import { errorFor, PathFailed, ProtocolViolation, RoamRelayError, SessionLost, type Code } from "./errors.js";
import type { Agreed, LockedPath } from "./lock.js";
import { pack, Reader, type Fields } from "./messagepack.js";
import { isNewer, readHead, type Head, type Mode, type PathHello, type PathRank, type PathWelcome } from "./messages.js";
import { SessionMachine } from "./session/machine.js";
import { NO_EARLY, type Early } from "./session/outgoing.js";
import type { SessionSettings } from "./session/liveness.js";
import { now, pause, Waiters } from "./time.js";

/** What does not change of a session. */
export interface Terms {
  readonly id: Bytes;
  readonly remote: string;
  readonly service: string;
  readonly mode: Mode;
  readonly isCaller: boolean;
  readonly metadata: Bytes;
}

/** A locked stream, and the ticket that asks for the next one. */
export interface Leg {
  readonly path: LockedPath;
  readonly ticket: string | null;
  /** Let wait on it what a session's window allows: for one whose hello is welcome, or that was dialed. */
  admit(): void;
}

/** Where legs come from: the peer. */
export interface Ways {
  /** A leg by the ticket of the last plane. */
  byTicket(route: Route, ticket: string): Promise<Leg>;
  /** A leg that the relay is asked for; throws what it, or the other side, has answered. */
  byRequest(route: Route): Promise<Leg>;
  /** The session is over, and need not be known any more after `seconds`. */
  over(route: Route, seconds: number): void;
}

export interface TraceEvent {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  readonly what: string;
}

const HEAD_SECONDS = 10;
const BUFFERED = 1 << 20;
/** Seconds for the leg of a session that is over to take its last words. */
const LAST_WORDS_SECONDS = 2;
const MOST_TRACE = 64;
const LONGEST_PAUSE = 30;
/** Seconds after which a timer was held back, and not only busy. */
const LATE = 1;

export class Route {
  readonly machine: SessionMachine;
  readonly changes = new Waiters();
  path: LockedPath | null = null;
  agreed: Agreed | null = null;
  /** Why it was lost, or that it was closed; null while it is neither. */
  outcome: SessionLost | "closed" | null = null;
  pathReason = "not found yet";
  readonly trace: TraceEvent[] = [];
  private rank: PathRank = { path: 0, dialedByCaller: false };
  private highest = 0;
  private ticket: string | null = null;
  /** Whether the other side has named, on the path taken last, that data may stand behind a hello. */
  private takesEarly = false;
  private isSearching = false;
  private isPumping = false;
  private readonly hurries = new Waiters();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly terms: Terms, private readonly ways: Ways, settings: SessionSettings) {
    this.machine = new SessionMachine(settings, now());
  }

  get key(): string {
    return toHex(this.terms.id);
  }

  /** Whether it waits for a path. */
  get isWithout(): boolean {
    return this.path === null && this.outcome === null && this.hasBegun;
  }

  /** Whether it has had a path. */
  get hasBegun(): boolean {
    return this.rank.path > 0;
  }

  note(what: string): void {
    this.trace.push({ at: Date.now(), what });
    if (this.trace.length > MOST_TRACE) this.trace.splice(1, 1); // The first says how it began.
  }

  // -- a path that this side dials --------------------------------------------------------------

  /** Say hello on a leg, as path `number`, and take it where it is welcome. */
  async greet(leg: Leg, number: number): Promise<void> {
    const { id, service, mode, isCaller, metadata } = this.terms;
    const isFirst = !this.hasBegun;
    const head = new HeadReader(leg.path);
    try {
      this.highest = Math.max(this.highest, number);
      leg.admit(); // What stands behind a welcome comes before it is read.
      const early = this.takesEarly ? this.machine.early(now()) : NO_EARLY;
      const hello = pack({
        type: "path_hello", session: id, service, mode, resume: isFirst ? undefined : true, path: number,
        ...this.said(), metadata: isFirst && isCaller && metadata.length ? metadata : undefined,
      });
      await leg.path.send(concat(hello, ...early.frames));
      const said = await head.read();
      if (said.type === "path_reject") {
        if (said.code === "session_unknown" && !isFirst) this.lose("the other side knows no such session", said.code);
        throw errorFor(said.code, said.reason);
      }
      if (said.type !== "path_welcome") throw new ProtocolViolation("no welcome");
      this.take(leg, said, { path: number, dialedByCaller: isCaller }, head.rest, { early });
    } catch (error) {
      leg.path.cut();
      throw error;
    }
  }

  // -- a path that the other side dials ---------------------------------------------------------

  /** Judge a hello; null where its path may be welcomed. */
  judge(hello: PathHello): Code | null {
    const { service, mode, isCaller } = this.terms;
    if (hello.version !== 1) return "version_unsupported";
    if (hello.service !== service || hello.mode !== mode || this.outcome instanceof SessionLost) return "session_unknown";
    if (hello.standby) return "refused";
    return isNewer({ path: hello.path, dialedByCaller: !isCaller }, this.rank) ? null : "path_superseded";
  }

  /** Welcome a leg whose hello was judged. */
  welcome(leg: Leg, hello: PathHello, rest: Bytes): void {
    // Numbers that cannot be true end the path, and not the session.
    this.machine.check(hello, isRevised(hello));
    const said = this.said();
    this.take(leg, hello, { path: hello.path, dialedByCaller: !this.terms.isCaller }, rest, { first: { type: "path_welcome", ...said } });
  }

  private said(): Fields {
    const { received, consumed, partial, window } = this.machine.numbers;
    return { received, consumed, window, partial: partial || undefined, features: ["session-2", "early-data"] };
  }

  private take(
    leg: Leg, there: PathHello | PathWelcome, rank: PathRank, rest: Bytes, said: { first?: Fields; early?: Early },
  ): void {
    const { first, early } = said;
    if (this.outcome instanceof SessionLost || !isNewer(rank, this.rank)) throw new PathFailed("another path was newer");
    const time = now();
    this.machine.attach(there, isRevised(there), time, early);
    this.takesEarly = isRevised(there) && there.features.includes("early-data");
    const old = this.path;
    leg.admit();
    this.path = leg.path;
    this.rank = rank;
    this.highest = Math.max(this.highest, rank.path);
    this.ticket = leg.ticket;
    this.pathReason = "";
    this.note(`path ${rank.path}, by the relay`);
    if (this.outcome !== null) this.cutSoon(leg.path);
    if (first) leg.path.send(pack(first)).catch(() => this.lost(leg.path, "the path has failed"));
    void old?.close();
    this.guard(this.read(leg.path, rest));
    this.act();
    this.changes.wake();
  }

  // -- the path of now --------------------------------------------------------------------------

  /** Do what the machine wants done. Called after whatever has changed it. */
  act(): void {
    for (const event of this.machine.takeEvents()) {
      if (event.what === "path dead") this.lost(this.path, event.reason);
      else if (this.outcome === null) {
        this.outcome = event.reason === null
          ? "closed" : new SessionLost(event.reason, this.machine.outgoing.messages, event.code);
        this.note(event.reason === null ? "closed" : `lost: ${event.reason}`);
        if (this.path) this.cutSoon(this.path);
        this.ways.over(this, event.reason === null ? this.machine.settings.linger : 0);
        this.hurries.wake();
      }
    }
    clearTimeout(this.timer);
    const due = this.machine.nextTimeout;
    if (due !== null) {
      const wait = Math.min(Math.max(0, due - now()) * 1000, 2 ** 31 - 1);
      this.timer = setTimeout(() => {
        if (now() > due + LATE) this.machine.woke(now());
        this.machine.handleTimeout(now());
        this.act();
      }, wait);
    }
    this.guard(this.pump());
    this.changes.wake();
  }

  /** End the session at once. */
  lose(reason: string, code: Code = "internal"): void {
    this.machine.abort(code, reason, now());
    this.act();
  }

  /** End the path of a session that is over, where it takes nothing any more. */
  cutStuck(): void {
    if (this.outcome !== null && this.path !== null && this.path.buffered > BUFFERED) this.lost(this.path, "it is over");
  }

  /** The session is over: what is still to be said has so long to leave. */
  private cutSoon(path: LockedPath): void {
    const timer = setTimeout(() => this.lost(path, "it is over"), LAST_WORDS_SECONDS * 1000);
    void this.pathless().then(() => clearTimeout(timer));
  }

  private async pathless(): Promise<void> {
    while (this.path !== null) await this.changes.changed();
  }

  /** The network may have changed: see whether the path lives, or look for the next at once. */
  doubt(): void {
    if (this.path) {
      const roundTrip = this.machine.liveness.roundTrip ?? 0.5;
      this.machine.handleTimeout(now());
      this.machine.probe(now(), Math.min(Math.max(4 * roundTrip, 0.5), 5));
      this.act();
    } else {
      this.machine.handleTimeout(now());
      this.act();
      this.hurries.wake();
    }
  }

  private lost(path: LockedPath | null, reason: string): void {
    if (path === null || path !== this.path) return;
    this.path = null;
    this.machine.detach(now());
    path.cut();
    if (this.outcome !== null) {
      this.changes.wake();
      return;
    }
    this.pathReason = reason;
    this.note(`path lost: ${reason}`);
    this.act();
    this.guard(this.search());
  }

  /** What nobody expected is said, and ends this session alone. */
  private guard(work: Promise<void>): void {
    work.catch((error: unknown) => {
      console.error(error);
      this.lose("a fault of this package", "internal");
    });
  }

  private async read(path: LockedPath, rest: Bytes): Promise<void> {
    let data: Bytes | null = rest;
    try {
      for (; data !== null; data = await path.receive()) {
        if (this.path !== path) return;
        if (data.length) {
          this.machine.receive(data, now());
          this.act();
        }
      }
      this.lost(path, "the path has ended");
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.act(); // It may be the session that is over.
      if (this.outcome === null) this.lost(path, error.message);
    }
  }

  private async pump(): Promise<void> {
    if (this.isPumping) return;
    this.isPumping = true;
    try {
      for (let path = this.path; path !== null; path = this.path) {
        if (path.buffered > BUFFERED) {
          await pause(0.02); // A WebSocket tells nobody when it has written.
          continue;
        }
        const data = this.machine.dataToSend(now());
        if (!data.length) break;
        await path.send(data).catch(() => this.lost(path, "the path has failed"));
      }
    } finally {
      this.isPumping = false;
    }
    if (this.outcome !== null && this.path !== null) {
      const path = this.path;
      this.path = null;
      this.machine.detach(now());
      void path.close();
      this.changes.wake();
    }
  }

  // -- the next one -----------------------------------------------------------------------------

  private async search(): Promise<void> {
    if (this.isSearching) return;
    this.isSearching = true;
    try {
      if (!this.terms.isCaller) await pause(0.25, this.hurries.changed());
      for (let most = 0.25; this.outcome === null && this.path === null; most = Math.min(2 * most, LONGEST_PAUSE)) {
        const hurried = this.hurries.changed();
        const far = await this.attempt(this.highest + 1);
        if (this.path !== null || this.outcome !== null) return;
        const longest = far ? LONGEST_PAUSE : 1;
        await pause(Math.min(most, longest) * (0.5 + Math.random() / 2), hurried);
      }
    } finally {
      this.isSearching = false;
    }
  }

  /** Try all ways once; whether the relay says that the other side is away. */
  private async attempt(number: number): Promise<boolean> {
    this.highest = Math.max(this.highest, number);
    const ticket = this.ticket;
    this.ticket = null;
    const ways: [string, () => Promise<Leg>][] = [["by a request", () => this.ways.byRequest(this)]];
    if (ticket) ways.unshift(["by the last plane's ticket", () => this.ways.byTicket(this, ticket)]);
    for (const [what, way] of ways) {
      if (this.path !== null || this.outcome !== null) continue;
      try {
        const leg = await way();
        this.note(`${what}: a plane`);
        await this.greet(leg, number);
        return false;
      } catch (error) {
        if (!(error instanceof RoamRelayError)) throw error;
        this.note(`${what}: ${error.message}`);
        if (this.path !== null) return false; // The other side has made one meanwhile.
        if (error.code === "session_unknown") this.lose("the other side knows no such session", "session_unknown");
        if (error.code === "superseded" || error.code === "not_admitted") this.lose(error.message, error.code);
        if (error.code === "peer_offline" || error.code === "unknown_peer") return true;
      }
    }
    return false;
  }
}

function isRevised(head: PathHello | PathWelcome): boolean {
  return head.features.includes("session-2");
}

/** What stands at the head of a path: one message, within a time. */
export class HeadReader {
  private readonly reader = new Reader();

  /** `most` bytes may stand behind it. */
  constructor(private readonly path: LockedPath, private readonly most = Infinity) {}

  /** What has come behind it. */
  get rest(): Bytes {
    return this.reader.rest;
  }

  async read(): Promise<Head> {
    const timer = setTimeout(() => this.path.cut(), HEAD_SECONDS * 1000);
    try {
      for (;;) {
        const data = await this.path.receive();
        if (data === null) throw new PathFailed("the path has ended before its head");
        this.reader.feed(data);
        const value = this.reader.next();
        if (value === undefined) continue;
        if (this.rest.length > this.most) throw new ProtocolViolation("too much before the hello was answered");
        return readHead(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}
