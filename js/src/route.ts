/** How one session gets its paths: the one of now, the search for the next, and what both make of the
 * session's machine. Decisions are the machine's and `isNewer`'s; this carries them out. */

import { concat, toHex, type Bytes } from "./bytes.js";
import { errorFor, PathFailed, ProtocolViolation, RoamRelayError, SessionLost, type Code } from "./errors.js";
import { HeadReader } from "./head.js";
import type { Agreed } from "./lock.js";
import { pack, type Fields } from "./messagepack.js";
import {
  isNewer, type Mode, type PathHello, type PathRank, type PathWelcome, type SignedEntry,
} from "./messages.js";
import type { Leg, Native, Path, PathKind, Remote, Word } from "./path.js";
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

export type { Leg };

/** Where legs come from: the peer. */
export interface Ways {
  /** A leg by the ticket of the last plane. */
  byTicket(route: Route, ticket: string): Promise<Leg>;
  /** A leg that the relay is asked for, or is told where to dial; throws what it, or the other side, has
   * answered. */
  byRequest(route: Route): Promise<Leg>;
  /** What dials; a page has none. */
  readonly native?: Native | null;
  /** The session is over, and need not be known any more after `seconds`. */
  over(route: Route, seconds: number): void;
}

export interface TraceEvent {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  readonly what: string;
}

const BUFFERED = 1 << 20;
/** Seconds for the leg of a session that is over to take its last words. */
const LAST_WORDS_SECONDS = 2;
const MOST_TRACE = 64;
const LONGEST_PAUSE = 30;
/** Seconds from one attempt at a direct path to the next, while the session is on a plane: at least where the
 * other side tells of endpoints, and else; and before the session's callee begins. */
const TOLD_PAUSE = 1, DIRECT_PAUSE = 60, CALLEE_PAUSE = 1;
/** Seconds without a direct path after which a session that may goes on by the relay. */
const FALLBACK_SECONDS = 4;
const FALLBACK = "relay-fallback";
/** Seconds after which a timer was held back, and not only busy. */
const LATE = 1;

export class Route {
  readonly machine: SessionMachine;
  readonly changes = new Waiters();
  path: Path | null = null;
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
  private isImproving = false;
  private featuresThere: readonly string[] = [];
  private lostAt = 0;
  private isPumping = false;
  private readonly hurries = new Waiters();
  private readonly tellings = new Waiters();
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

  /** What does the dialing, where this session may take direct paths. */
  get dialer(): Native | null {
    const { native } = this.ways;
    return native?.isDirect && this.terms.mode !== "central" ? native : null;
  }

  get where(): Remote {
    const { remote, service, isCaller } = this.terms;
    return { key: this.key, remote, service, isCaller };
  }

  /** Whether both sides let it go on by the relay, though its mode is for direct paths. */
  get fallsBack(): boolean {
    return this.terms.mode === "combined" && this.hasBegun && this.featuresThere.includes(FALLBACK);
  }

  /** The mode in which the relay is asked for the next path. */
  get asked(): Mode {
    return this.fallsBack && now() > this.lostAt + FALLBACK_SECONDS ? "auto" : this.terms.mode;
  }

  /** It has had its first path, or is over. */
  async begun(): Promise<void> {
    while (!this.hasBegun && this.outcome === null) await this.changes.changed();
  }

  note(what: string): void {
    this.trace.push({ at: Date.now(), what });
    if (this.trace.length > MOST_TRACE) this.trace.splice(1, 1); // The first says how it began.
  }

  // -- a path that this side dials --------------------------------------------------------------

  /** Say hello on a leg, as path `number`, and take it where it is welcome. */
  async greet(leg: Leg, number: number): Promise<PathWelcome> {
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
      return said;
    } catch (error) {
      leg.path.cut();
      throw error;
    }
  }

  // -- a path that the other side dials ---------------------------------------------------------

  /** Judge a hello; null where its path may be welcomed. */
  judge(hello: PathHello, kind: PathKind = "relayed"): Code | null {
    const { service, mode, isCaller } = this.terms;
    if (hello.version !== 1) return "version_unsupported";
    if (hello.service !== service || hello.mode !== mode || this.outcome instanceof SessionLost) return "session_unknown";
    if (mode !== "auto" && (kind === "relayed") !== (mode === "central") && !(kind === "relayed" && this.fallsBack)) return "session_unknown";
    if (hello.standby) return "refused";
    return isNewer({ path: hello.path, dialedByCaller: !isCaller }, this.rank) ? null : "path_superseded";
  }

  /** Welcome a leg whose hello was judged. */
  welcome(leg: Leg, hello: PathHello, rest: Bytes): void {
    // Numbers that cannot be true end the path, and not the session.
    this.machine.check(hello, isRevised(hello));
    const { isCaller, metadata } = this.terms;
    // Of who is called, and has dialed: it has not heard it yet.
    const more = isCaller && !this.hasBegun && metadata.length ? { metadata } : {};
    const said = this.said();
    this.take(leg, hello, { path: hello.path, dialedByCaller: !isCaller }, rest, { first: { type: "path_welcome", ...said, ...more } });
  }

  private said(): Fields {
    const { received, consumed, partial, window } = this.machine.numbers;
    const { mode, service } = this.terms;
    const features = mode === "combined" ? ["session-2", "early-data", FALLBACK] : ["session-2", "early-data"];
    const entries = this.dialer?.entries(service);
    return { received, consumed, window, partial: partial || undefined, entries: entries?.length ? entries : undefined, features };
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
    this.featuresThere = there.features;
    const { kind, there: end } = leg.path;
    this.note(`path ${rank.path}, ${kind === "direct" ? `direct, ${end}` : "by the relay"}`);
    if (end) this.dialer?.reached(this.where, end);
    this.told(there.entries, "told");
    if (this.outcome !== null) this.cutSoon(leg.path);
    if (first) leg.path.send(pack(first)).catch(() => this.lost(leg.path, "the path has failed"));
    void old?.close();
    this.guard(this.read(leg.path, rest));
    this.act();
    this.changes.wake();
    if (kind === "relayed") this.guard(this.improve());
  }

  /** Somebody says where the other side can be dialed. */
  told(entries: readonly SignedEntry[], word: Word): void {
    if (!entries.length || this.outcome !== null) return;
    this.dialer?.told(this.where, entries, word);
    this.tellings.wake();
  }

  /** The other side, or the relay, says something: who looks for a path tries at once. */
  hurry(): void {
    this.hurries.wake();
  }

  /** This host's endpoints are others, and some of its addresses gone: so is a path from there. */
  moved(gone: ReadonlySet<string>): void {
    const { path } = this;
    if (path?.here !== undefined && gone.has(path.here)) this.lost(path, `the address ${path.here} is gone`);
    else this.doubt();
    const entries = this.path && this.dialer?.entries(this.terms.service);
    if (!entries) return;
    this.machine.tell(entries.map(({ body, signature }) => [body ?? null, signature ?? null]));
    this.act();
    this.tellings.wake();
  }

  // -- the path of now --------------------------------------------------------------------------

  /** Do what the machine wants done. Called after whatever has changed it. */
  act(): void {
    for (const event of this.machine.takeEvents()) {
      if (event.what === "path dead") this.lost(this.path, event.reason);
      else if (event.what === "location") this.told(event.entries, "told");
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
  private cutSoon(path: Path): void {
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

  private lost(path: Path | null, reason: string): void {
    if (path === null || path !== this.path) return;
    this.path = null;
    this.lostAt = now();
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

  private async read(path: Path, rest: Bytes): Promise<void> {
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
    const far: Way[] = [["by a request", () => this.ways.byRequest(this)]];
    if (ticket) far.unshift(["by the last plane's ticket", () => this.ways.byTicket(this, ticket)]);
    const { dialer } = this;
    if (dialer === null) return this.tryEach(far, number);
    const near: Way[] = [["direct", () => dialer.dial(this.where)]];
    const asking = this.tryEach(far, number);
    // Who has a path by one of them waits for the other no more.
    await Promise.race([Promise.all([asking, this.tryEach(near, number)]), this.found()]);
    return this.path === null && this.outcome === null ? asking : false;
  }

  /** Until there is a path, or none is wanted. */
  private async found(): Promise<void> {
    while (this.path === null && this.outcome === null) await this.changes.changed();
  }

  private async tryEach(ways: readonly Way[], number: number): Promise<boolean> {
    for (const [what, way] of ways) {
      if (this.path !== null || this.outcome !== null) continue;
      try {
        const leg = await way();
        if (this.path !== null || this.outcome !== null) {
          leg.path.cut(); // Another way was sooner.
          return false;
        }
        this.note(`${what}: ${leg.path.kind === "direct" ? "the other side" : "a plane"}`);
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

  /** While it is on a plane, and may be on a direct path: look for one. The session's caller begins. */
  private async improve(): Promise<void> {
    const { dialer } = this;
    if (dialer === null || this.isImproving) return;
    this.isImproving = true;
    try {
      if (!this.terms.isCaller) await pause(CALLEE_PAUSE);
      while (this.path?.kind === "relayed" && this.outcome === null) {
        const told = this.tellings.changed();
        try {
          const leg = await dialer.dial(this.where);
          // An await above may have changed it.
          if ((this.path as Path | null)?.kind !== "relayed" || this.outcome !== null) leg.path.cut();
          else await this.greet(leg, this.highest + 1);
        } catch (error) {
          if (!(error instanceof RoamRelayError)) throw error;
          this.note(`direct: ${error.message}`);
        }
        await pause(TOLD_PAUSE, this.unplaned());
        await pause(DIRECT_PAUSE, told, this.unplaned());
      }
    } finally {
      this.isImproving = false;
    }
  }

  private async unplaned(): Promise<void> {
    while (this.path?.kind === "relayed" && this.outcome === null) await this.changes.changed();
  }
}

/** What it is called, and what gives its leg. */
type Way = readonly [string, () => Promise<Leg>];

function isRevised(head: PathHello | PathWelcome): boolean {
  return head.features.includes("session-2");
}
