/** What others ask of this peer: sessions with its services, and next paths of those that it has
 * (docs/protocol.md §8, §10). Whatever strangers cause is counted, for all and for each of them. */

import { equal, NOTHING, toHex, type Bytes } from "./bytes.js";
import { ProtocolViolation, RoamRelayError, SessionLost, type Code } from "./errors.js";
import { HeadReader } from "./head.js";
import { keyOf, type Identity } from "./identity.js";
import type { ControlConnection } from "./control.js";
import type { Legs } from "./legs.js";
import type { Listener } from "./listener.js";
import { lockBody, LOCKS, readLocks, type Agreed } from "./lock.js";
import { pack, type Value } from "./messagepack.js";
import type { Message, PathHello } from "./messages.js";
import { answerOffer, openOffer } from "./offer.js";
import type { Leg, Native } from "./path.js";
import type { Route, Terms } from "./route.js";
import { Session } from "./session.js";
import { now, pause } from "./time.js";

type Request = Message<"service_request_from">;

/** What the peer lends. */
export interface Host {
  readonly identity: Identity;
  readonly routes: ReadonlyMap<string, Route>;
  readonly listeners: ReadonlyMap<string, Listener>;
  readonly legs: Legs;
  /** What takes TLS, and direct paths; a page has none. */
  readonly native?: Native | null;
  /** Make a route, which is not known yet. */
  create(terms: Terms): Route;
  add(route: Route): void;
}

/** Legs that are opened for others at once, and those for one of them; sessions of one other side. */
const MOST_LEGS = 64, LEGS_OF_ONE = 8, SESSIONS_OF_ONE = 64;
/** Bytes of the session that may stand behind a hello before it is answered. */
const EARLY_BYTES = 65_536;
/** Seconds for the program to say whether it takes a session. */
const SELECT_SECONDS = 3;
/** Sessions that were announced and have no path yet, for all and for one other side; and for how long beside the
 * timeout of the request. */
const MOST_AWAITED = 256, AWAITED_OF_ONE = 32, AWAITED_SECONDS = 10;
/** Seconds after which who is called dials who calls. */
const CALL_BACK_SECONDS = 1;

/** A session that others have begun to open: all that is tried of it is for one route. */
interface Awaited {
  readonly route: Route;
  readonly until: number;
}

export class Incoming {
  /** Whose legs are being opened, by ticket. */
  private readonly opening = new Map<string, string>();
  private readonly awaited = new Map<string, Awaited>();

  constructor(private readonly host: Host) {}

  /** Somebody asks. Never throws. */
  async asked(connection: ControlConnection, request: Request): Promise<void> {
    const { native } = this.host;
    const { ticket } = request;
    const key = toHex(request.session);
    let isEntered = false;
    const say = (fields: { verdict: string; code?: Code; reason?: string; offer?: Bytes; entries?: Value[] }) =>
      connection.say({ type: "service_answer", request: request.request, ...fields });
    try {
      const known = this.host.routes.get(key);
      let code = this.refuses(request, known);
      // Entered before anything is waited for, so that it counts for the next; the same may come twice.
      if (code === null && ticket !== null && !this.opening.has(ticket)) {
        this.opening.set(ticket, request.guid);
        isEntered = true;
      }
      const [agreed, offer] = code === null && ticket !== null ? await this.lockOf(request, known) : [null, null];
      if (code === null && ticket !== null && agreed === null) code = "lock_unsupported";
      const route = code === null ? (known ?? this.await(request)) : null;
      if (route === null) {
        code ??= "limit_exceeded";
        const reason = code === "lock_unsupported" && !native ? "a page takes no TLS of its own" : "";
        say({ verdict: "refused", code, reason });
        return;
      }
      if (agreed && (offer || !known)) route.agreed = agreed;
      route.told(request.entries, "relay");
      const entries = route.dialer?.entries(request.service);
      say({ verdict: "accepted", ...(offer ? { offer } : {}), ...(entries?.length ? { entries } : {}) });
      if (request.resume) route.hurry();
      if (isEntered) await this.serve(request, agreed as Agreed);
      else if (ticket === null && !request.resume && request.entries.length) await this.callBack(route);
    } catch (error) {
      // A path that came to nothing is the other side's to try again.
      if (!(error instanceof RoamRelayError)) console.error(error);
    } finally {
      if (isEntered) {
        this.opening.delete(ticket as string);
        this.drop(key);
      }
    }
  }

  /** A direct path has come, from a key that is proven. Never throws. */
  async came(guid: string, leg: Leg): Promise<void> {
    try {
      await this.answer(guid, leg);
    } catch (error) {
      if (!(error instanceof RoamRelayError)) console.error(error);
    }
  }

  private refuses({ guid, service, mode, session, ticket, resume }: Request, known: Route | undefined): Code | null {
    if (resume) {
      const same = known && known.terms.remote === guid && known.terms.service === service
        && (known.terms.mode === mode || (mode === "auto" && known.fallsBack));
      if (!same) return "session_unknown";
    } else {
      if (!this.host.listeners.has(service)) return "unknown_service";
      if (known) return "session_unknown";
      if (this.sessionsOf(guid) >= SESSIONS_OF_ONE) return "limit_exceeded";
    }
    if (session.length !== 16) return "no_endpoint";
    // Without a plane there is only what a page cannot dial, nor be dialed for.
    if (ticket === null) return this.host.native?.isDirect && mode !== "central" ? null : "no_endpoint";
    const legs = [...this.opening.values()];
    return legs.length >= MOST_LEGS || legs.filter((one) => one === guid).length >= LEGS_OF_ONE ? "limit_exceeded" : null;
  }

  private sessionsOf(guid: string): number {
    return [...this.host.routes.values()].filter((route) => route.terms.remote === guid).length;
  }

  /** What the plane of a request is locked by, and the offer that says so. */
  private async lockOf(request: Request, known: Route | undefined): Promise<readonly [Agreed | null, Bytes | null]> {
    const { identity, native } = this.host;
    const taken = native?.locks ?? LOCKS;
    const { guid, session, offer } = request;
    const body = offer.length ? await openOffer(offer, guid, identity.guid, session) : null;
    // A ticket asks for the plane, or the relay passes nothing on: it stays as it was.
    if (body === null && known?.agreed) return [{ ...known.agreed, offered: [] }, null];
    const agreed = readLocks(body, taken);
    if (agreed === null || body === null) return [agreed, null];
    return [agreed, await answerOffer(identity, guid, session, offer, lockBody(agreed.lock))];
  }

  /** The route of a session that somebody opens; null where there are too many, or it is another's. */
  private await(request: Terms | Request): Route | null {
    const terms = "isCaller" in request ? request : termsOf(request);
    const { remote } = terms;
    const time = now(), key = toHex(terms.id);
    for (const [one, { until }] of this.awaited) if (until < time) this.drop(one);
    const found = this.awaited.get(key);
    if (found) {
      const { remote: who, service, mode } = found.route.terms;
      return who === remote && service === terms.service && mode === terms.mode ? found.route : null;
    }
    const of = [...this.awaited.values()].filter(({ route }) => route.terms.remote === remote).length;
    if (of >= AWAITED_OF_ONE) return null;
    // The first of all gives way: it was heard of longest ago, and whoever opens one is quick.
    for (const [oldest] of this.awaited) if (this.awaited.size >= MOST_AWAITED) this.drop(oldest);
    const route = this.host.create(terms);
    const seconds = "timeout" in request ? Math.min(request.timeout, 60) : 0;
    this.awaited.set(key, { route, until: time + seconds + AWAITED_SECONDS });
    return route;
  }

  /** It is awaited no more: it has begun, or will not. */
  private drop(key: string): void {
    if (this.awaited.delete(key) && !this.host.routes.has(key)) this.host.native?.forget(key);
  }

  private async serve(request: Request, agreed: Agreed): Promise<void> {
    const { guid, session, ticket } = request;
    const side = { identity: this.host.identity, remote: keyOf(guid), session, agreed, isCaller: false };
    await this.answer(guid, await this.host.legs.open(ticket as string, side), session);
  }

  /** Answer the hello of a leg that somebody has dialed; `session` is what its plane was made for. */
  private async answer(guid: string, leg: Leg, session?: Bytes): Promise<void> {
    const head = new HeadReader(leg.path, EARLY_BYTES);
    try {
      const hello = await head.read();
      if (hello.type !== "path_hello") throw new ProtocolViolation("no hello");
      const route = this.routeOf(guid, hello, session);
      // While the program decides, another leg of this session may have come, or the listener gone.
      const refusal = typeof route === "string" ? refuse(route)
        : await this.judge(route, hello, leg) ?? this.judgeNow(route, hello, leg);
      if (refusal !== null) {
        if (typeof route !== "string" && !route.hasBegun) this.drop(route.key);
        await leg.path.send(pack({ type: "path_reject", ...refusal }));
        await leg.path.close();
        return;
      }
      const one = route as Route;
      const isFirst = !one.hasBegun && !one.terms.isCaller;
      one.welcome(leg, hello, head.rest);
      if (isFirst) this.begin(one, hello.metadata);
    } catch (error) {
      leg.path.cut();
      throw error;
    }
  }

  private routeOf(guid: string, hello: PathHello, session?: Bytes): Route | Code {
    if (hello.version !== 1) return "version_unsupported";
    if (session && !equal(session, hello.session)) return "session_unknown";
    const key = toHex(hello.session);
    const known = this.host.routes.get(key) ?? this.awaited.get(key)?.route;
    if (known) return known.terms.remote === guid && (known.hasBegun || !hello.resume) ? known : "session_unknown";
    if (session || hello.resume || hello.mode !== "p2p") return "session_unknown";
    const { service, mode } = hello;
    const terms: Terms = { id: hello.session, remote: guid, service, mode, isCaller: false, metadata: NOTHING };
    return this.await(terms) ?? "limit_exceeded";
  }

  /** Somebody who calls, and does not come, may be where nothing gets out. A program that chooses whom it takes
   * is not asked about who is dialed: nobody is. */
  private async callBack(route: Route): Promise<void> {
    await pause(CALL_BACK_SECONDS, route.begun());
    const listener = this.host.listeners.get(route.terms.service);
    const { dialer } = route;
    if (route.hasBegun || !dialer || !listener || listener.select !== null || this.hasNoPlace(route)) return;
    const leg = await dialer.dial(route.where);
    if (route.hasBegun || this.hasNoPlace(route)) {
      leg.path.cut();
      return;
    }
    const { metadata } = await route.greet(leg, 1);
    if (!this.host.routes.has(route.key)) this.begin(route, metadata);
  }

  /** Why a hello is not welcome, in the order of docs/protocol.md §10. */
  private async judge(route: Route, hello: PathHello, leg: Leg): Promise<Refusal | null> {
    const { remote, service } = route.terms;
    const refusal = this.judgeNow(route, hello, leg);
    if (route.hasBegun || route.terms.isCaller) return refusal;
    const listener = this.host.listeners.get(service);
    if (refusal || !listener) return refusal;
    if (listener.select === null) return null;
    try {
      const deciding = Promise.resolve(listener.select({ remote, service, metadata: hello.metadata }));
      const said = await Promise.race([deciding, pause(SELECT_SECONDS, deciding).then(() => null)]);
      if (said === null) return refuse("request_timeout", "the program has not said whether it takes the session");
      return said === true ? null : refuse("refused", said === false ? "" : said.slice(0, 512));
    } catch (error) {
      console.error(error); // The program's own fault: it should hear of it.
      return refuse("internal", "the program failed to say");
    }
  }

  private judgeNow(route: Route, hello: PathHello, leg: Leg): Refusal | null {
    const code = route.judge(hello, leg.path.kind);
    if (code !== null) return refuse(code);
    return route.hasBegun || route.terms.isCaller ? null : this.hasNoPlace(route);
  }

  /** Why a first path cannot begin its session here and now. */
  private hasNoPlace(route: Route): Refusal | null {
    const { remote, service } = route.terms;
    if (this.host.routes.has(route.key)) return refuse("session_unknown");
    const listener = this.host.listeners.get(service);
    if (!listener) return refuse("unknown_service");
    if (this.sessionsOf(remote) >= SESSIONS_OF_ONE) return refuse("limit_exceeded", "too many sessions");
    return listener.hasRoom(remote) ? null : refuse("limit_exceeded", "too many sessions wait for the program");
  }

  private begin(route: Route, metadata: Bytes): void {
    this.awaited.delete(route.key);
    // What stood behind the hello may have ended it: nobody would forget it any more.
    if (route.outcome instanceof SessionLost) return;
    this.host.add(route);
    const session = new Session(route, metadata);
    const listener = this.host.listeners.get(route.terms.service);
    if (listener) listener.add(session);
    else session.abort("the service was closed");
  }
}

interface Refusal {
  readonly code: Code;
  readonly reason: string;
}

function refuse(code: Code, reason = ""): Refusal {
  return { code, reason };
}

function termsOf({ session, guid, service, mode }: Request): Terms {
  return { id: session, remote: guid, service, mode, isCaller: false, metadata: NOTHING };
}
