/** A peer: its place at a relay, the sessions that it opens, and those that others open to it. */

import { copied, NOTHING, random } from "./bytes.js";
import type { ControlConnection } from "./control.js";
import {
  codeOf, errorFor, LockUnsupported, PathFailed, RelayUnavailable, RequestTimeout, RoamRelayError, SessionLost, type Code,
} from "./errors.js";
import { Identity, keyOf } from "./identity.js";
import { Incoming } from "./incoming.js";
import { Invitation } from "./invitation.js";
import { Legs } from "./legs.js";
import { Listener, type ListenOptions } from "./listener.js";
import { chosenBy, LOCKS, locksBody, type Agreed, type LockSide } from "./lock.js";
import { MODES, SERVICE, type Control, type Mode } from "./messages.js";
import { makeOffer, openAnswer } from "./offer.js";
import type { Leg, Native } from "./path.js";
import { Pin } from "./pin.js";
import { Presences, type Presence } from "./presence.js";
import { Registration, type Status } from "./registration.js";
import { Route, type Terms, type Ways } from "./route.js";
import { Session, type Waiting } from "./session.js";
import { SETTINGS, type SessionSettings } from "./session/liveness.js";
import { watchSigns } from "./signs.js";
import { Deferred, now, pause, unless, within } from "./time.js";

export interface PeerOptions extends Waiting {
  /** The relay's address, `https://HOST` or `http://HOST:PORT`. */
  readonly relay: string;
  /** This peer's key; a new one, for as long as the program runs, where none is given. */
  readonly identity?: Identity;
  /** The GUID that the relay must have, or have had before it changed its key; without it, any that answers at
   * its address is taken. */
  readonly relayGuid?: string;
  /** The token of an invitation, for a relay that does not take everybody. */
  readonly invitation?: string;
  /** What the relay's operator reads in the log: up to 128 characters. */
  readonly agent?: string;
  readonly session?: Partial<SessionSettings>;
  /** Wait for a relay that cannot be reached, or refuses, until the signal says otherwise. */
  readonly wait?: boolean;
}

export interface ConnectOptions extends Waiting {
  /** `auto`, by default, and `central`; in Node `combined` and `p2p` too. */
  readonly mode?: Mode;
  /** Whether a session in `combined` that finds no direct path is opened in `auto` instead. True by default. */
  readonly fallback?: boolean;
  /** Seconds for the other side to answer, up to 60. */
  readonly timeout?: number;
  /** Wait for one that is not there, until it comes or the signal says otherwise. */
  readonly wait?: boolean;
  /** Up to 1,024 bytes for the other side's program, read before it takes the session. */
  readonly metadata?: Uint8Array | string;
}

/** What the relay tells anyone of a service (docs/protocol.md §14). */
export interface Located {
  readonly guid: string;
  readonly service: string;
  readonly state: "online" | "suspect" | "offline";
  readonly last_seen: number | null;
  readonly endpoints: readonly { readonly host: string; readonly port: number; readonly phase: string }[];
}

const PASSING: readonly Code[] = ["request_timeout", "restarting", "cluster_unavailable", "heartbeat_timeout"];
/** Seconds between two requests for one that is waited for, at most; and until it is asked for again where the
 * relay tells nothing of it. */
const LOOK_AGAIN = 2, LOOK_UNTOLD = 30;
/** Seconds for who is called to dial, where it was not reached. */
const CALLED_SECONDS = 3;

export class Peer {
  private readonly registration: Registration;
  private readonly routes = new Map<string, Route>();
  private readonly listeners = new Map<string, Listener>();
  private readonly presences: Presences;
  private readonly incoming: Incoming;
  private readonly settings: SessionSettings;
  private readonly legs: Legs;
  private readonly isClosed = new Deferred<void>();
  private readonly endSigns: () => void;
  private readonly ways: Ways;

  private readonly pin: Pin;
  private readonly url: URL;

  /** Made by `Peer.open`; `native` is what takes TLS, and dials and listens, where there is such.
   * @internal */
  protected constructor(
    readonly identity: Identity, { url, invitation }: Door, options: PeerOptions, private readonly native: Native | null = null,
  ) {
    this.settings = { ...SETTINGS, ...options.session };
    checkSettings(this.settings);
    this.url = url;
    this.pin = new Pin(options.relayGuid ?? null);
    const agent = (options.agent ?? "").slice(0, 128);
    const place = { identity, url: socketUrl(url), pin: this.pin, invitation, agent };
    const services = (seq: number) => [...this.listeners.keys()].map((service) => {
      const entries = native?.entries(service, seq);
      return entries?.length ? { service, entries } : { service };
    });
    this.registration = new Registration(place, services, (message, from) => this.hear(message, from));
    this.legs = new Legs(identity, socketUrl(url), this.registration, 2 * this.settings.window + (4 << 20), native);
    this.presences = new Presences(this.registration);
    this.ways = {
      byTicket: (route, ticket) => this.byTicket(route, ticket),
      byRequest: (route) => this.byRequest(route),
      over: (route, seconds) => void this.forget(route, seconds),
      native,
    };
    this.incoming = new Incoming({
      identity, routes: this.routes, listeners: this.listeners, legs: this.legs, native,
      create: (terms) => new Route(terms, this.ways, this.settings), add: (route) => this.add(route),
    });
    this.registration.start(() => [...this.routes.values()].some((route) => route.isWithout));
    this.endSigns = watchSigns(() => {
      this.registration.moved();
      for (const route of this.routes.values()) route.doubt();
    });
    native?.start({
      came: (guid, leg) => this.incoming.came(guid, leg),
      changed: (gone) => {
        this.registration.update();
        if (gone.size) this.registration.moved();
        for (const route of this.routes.values()) route.moved(gone);
      },
    });
  }

  /** Attach to a relay; resolves once this peer is registered there. It comes back by itself from then
   * on, until `close`. Throws `RelayUnavailable` where that does not work at once; where it is to `wait`,
   * only for what is final. */
  static async open(options: PeerOptions): Promise<Peer> {
    const door = await doorOf(options);
    return new Peer(options.identity ?? (await Identity.generate()), door, options).attached(options);
  }

  /** @internal */
  protected async attached({ wait, signal }: PeerOptions): Promise<this> {
    try {
      if (wait) await this.registration.ready(signal);
      else await this.registration.first(signal);
    } catch (error) {
      await this.close();
      throw error;
    }
    return this;
  }

  get guid(): string {
    return this.identity.guid;
  }

  /** The GUID that the relay must have: `relayGuid`, or the key that it has become since, signed by the one before.
   * Keep it, and hand it over the next time. Null where any relay is taken. */
  get relayGuid(): string | null {
    return this.pin.guid;
  }

  /** How this peer stands with its relay. */
  get status(): Status {
    return this.registration.status;
  }

  /** That, and each change of it; ends once it is over. */
  async *statuses({ signal }: Waiting = {}): AsyncGenerator<Status> {
    for (let last: Status | null = null; ;) {
      const { status, changes } = this.registration;
      const changed = changes.changed();
      if (status !== last) yield (last = status);
      if (status.state === "over") return;
      if (this.registration.status === status) await unless(signal, changed);
    }
  }

  /** Open a session to a service of another peer; resolves when it has its first path. */
  async connect(guid: string, service: string, options: ConnectOptions = {}): Promise<Session> {
    const { mode = "auto", timeout = 10, wait = false, signal } = options;
    keyOf(guid);
    checkService(service);
    if (guid === this.guid) throw new TypeError("a session with oneself");
    const modes = this.native?.isDirect ? MODES : (["auto", "central"] as const);
    if (!(modes as readonly unknown[]).includes(mode)) throw new TypeError(`mode is ${modes.join(" or ")} here, not ${String(mode)}`);
    checkTimeout(timeout);
    const metadata = copied(options.metadata ?? NOTHING);
    if (metadata.length > 1024) throw new RangeError("metadata has at most 1,024 bytes");
    const opened = (mode: Mode) => this.open({ id: random(16), remote: guid, service, mode, isCaller: true, metadata }, timeout, signal);
    const once = async () => {
      try {
        return await opened(mode);
      } catch (error) {
        const isMissed = error instanceof PathFailed || (error instanceof RoamRelayError && error.code === "no_endpoint");
        if (mode !== "combined" || options.fallback === false || !isMissed) throw error;
        return opened("auto");
      }
    };
    return wait ? this.keepOpening(guid, once, signal) : once();
  }

  /** Resolves when the relay knows all that is offered now. */
  async published({ signal }: Waiting = {}): Promise<void> {
    await this.registration.published(signal);
  }

  /** Offer a service: others' sessions come out of the listener. */
  listen(service: string, { select, signal }: ListenOptions = {}): Listener {
    checkService(service);
    signal?.throwIfAborted();
    if (this.listeners.has(service)) throw new TypeError(`${service} is offered already`);
    if (this.listeners.size >= 16) throw new RangeError("a peer offers 16 services at most");
    const listener = new Listener(service, select ?? null, () => {
      this.listeners.delete(service);
      signal?.removeEventListener("abort", abort);
      this.registration.update();
    });
    const abort = () => listener.close();
    signal?.addEventListener("abort", abort);
    this.listeners.set(service, listener);
    this.registration.update();
    return listener;
  }

  /** How another peer is, and each change of that, for as long as the loop lasts. */
  watch(guid: string, { signal }: Waiting = {}): AsyncGenerator<Presence> {
    keyOf(guid);
    return this.presences.watch(guid, signal);
  }

  /** Ask the relay, over HTTP, what anyone may know of a peer's service; `timeout` seconds, up to 60. */
  async lookup(guid: string, service: string, { timeout = 10, signal }: Waiting & { readonly timeout?: number } = {}): Promise<Located> {
    keyOf(guid);
    checkService(service);
    checkTimeout(timeout);
    const url = new URL(`/v1/peers/${guid}/services/${service}`, this.url);
    const late = () => new RequestTimeout(`the relay has not answered for ${timeout} s`, "request_timeout");
    const [answer, said] = await within(timeout, late, signal, async (ending) => {
      try {
        const answer = await fetch(url, { signal: ending });
        const said: unknown = await answer.json().catch(() => null);
        return [answer, (said ?? {}) as { code?: unknown; reason?: unknown }] as const;
      } catch (error) {
        ending.throwIfAborted();
        throw new RelayUnavailable(`the relay cannot be asked: ${error instanceof Error ? error.message : String(error)}`);
      }
    });
    if (answer.ok) return said as unknown as Located;
    const retry = Number(answer.headers.get("Retry-After"));
    throw errorFor(codeOf(said.code), String(said.reason ?? ""), retry > 0 ? retry : null);
  }

  /** Leave: services end, sessions are closed within `timeout` seconds or aborted, and the relay is told. */
  async close({ timeout = 1.5 }: { readonly timeout?: number } = {}): Promise<void> {
    for (const listener of [...this.listeners.values()]) listener.close();
    const until = now() + timeout;
    const ended = [...this.routes.values()], live = ended.filter((route) => route.outcome === null);
    for (const route of live) {
      route.machine.close(now());
      route.act();
    }
    while (now() < until && live.some((route) => route.outcome === null && route.path !== null)) {
      await pause(until - now(), ...live.filter((route) => route.outcome === null).map((route) => route.changes.changed()));
    }
    for (const route of live) if (route.outcome === null) route.lose("the peer was closed");
    // Also of those that were over before: nobody waits for a leg that takes nothing.
    for (const route of ended) route.cutStuck();
    this.endSigns();
    this.registration.close();
    this.native?.close();
    this.isClosed.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // -- inside -----------------------------------------------------------------------------------

  private hear(message: Control, from: ControlConnection): void {
    switch (message.type) {
      case "peer_event":
        this.presences.hear(message);
        return;
      case "service_request_from":
        void this.incoming.asked(from, message);
        return;
      case "registered": {
        const { ends } = from;
        const relay = ends ? { host: ends.host, port: ends.port } : null;
        this.native?.seen({ here: ends?.here ?? null, relay, observed: message.observed_host });
        return;
      }
      default:
        return;
    }
  }

  /** Open a session, once. */
  private async open(terms: Terms, timeout: number, signal?: AbortSignal): Promise<Session> {
    const route = new Route(terms, this.ways, this.settings);
    this.add(route);
    const dialing = this.byRequest(route, timeout, signal);
    let isGreeted = false;
    try {
      await unless(signal, Promise.race([dialing, route.begun()])).catch((error: unknown) => this.called(route, error, signal));
      if (!route.hasBegun) {
        isGreeted = true;
        const leg = await dialing;
        await unless(signal, route.greet(leg, 1).catch((error: unknown) => {
          if (!route.hasBegun) throw error; // Who is called may have dialed meanwhile.
        }));
      }
      if (route.outcome instanceof SessionLost) throw route.outcome;
      return new Session(route, NOTHING);
    } catch (error) {
      this.drop(route);
      throw error;
    } finally {
      if (!isGreeted) dialing.then(({ path }) => path.cut(), () => undefined); // It may come after all.
    }
  }

  /** The other side was not reached: in `combined` it dials too. */
  private async called(route: Route, error: unknown, signal?: AbortSignal): Promise<void> {
    if (error instanceof PathFailed && route.terms.mode === "combined") await unless(signal, pause(CALLED_SECONDS, route.begun()));
    if (!route.hasBegun) throw error;
  }

  /** Open one until that works, or fails for good. Who is not there is asked again when the relay says
   * that it has come or changed; a relay that is lost meanwhile does not say so again. */
  private async keepOpening(guid: string, once: () => Promise<Session>, signal?: AbortSignal): Promise<Session> {
    const ending = new AbortController();
    const comings = this.presences.comings(guid, ending.signal);
    let coming: Promise<unknown> | null = null;
    try {
      for (let failures = 0; ; failures++) {
        try {
          return await once();
        } catch (error) {
          if (!(error instanceof RoamRelayError) || this.status.state === "over") throw error;
          if (!isAway(error) && !isPassing(error)) throw error;
          const told = error.retryAfter ?? 0, least = Math.min(0.5 * 2 ** failures, LOOK_AGAIN);
          await unless(signal, pause(isAway(error) ? least : Math.max(told, least)));
          if (!isAway(error)) continue;
          // Until it comes, or for as long as the relay says where it does not tell of that.
          coming ??= comings.next().catch(() => undefined).then(() => (coming = null));
          await unless(signal, pause(Math.max(told, LOOK_UNTOLD), coming));
        }
      }
    } finally {
      ending.abort();
    }
  }

  private add(route: Route): void {
    this.routes.set(route.key, route);
  }

  private drop(route: Route): void {
    route.lose("it has not begun", "refused");
    void this.forget(route, 0);
  }

  private async forget(route: Route, seconds: number): Promise<void> {
    if (seconds) await pause(seconds, this.isClosed.promise);
    if (this.routes.get(route.key) === route) {
      this.routes.delete(route.key);
      this.native?.forget(route.key);
    }
  }

  /** Ask the relay for a plane, and open this side's leg of it; or where to dial, and dial. */
  private async byRequest(route: Route, timeout = 10, signal?: AbortSignal): Promise<Leg> {
    const { id, remote, service } = route.terms;
    this.registration.hurry();
    const connection = await within(timeout, () => this.noRelay(timeout), signal, (ending) => this.registration.ready(ending));
    if (route.outcome !== null) throw new PathFailed("the session is over");
    const relay = connection.relayKey;
    const { agreed, dialer, asked: mode } = route;
    const isPlane = mode === "central" || mode === "auto";
    const taken = this.native?.locks ?? LOCKS;
    // Without an offer, a session keeps the lock that it has (R18.6); a first path would get TLS.
    if (isPlane && !connection.passesOffers && !agreed && !taken.includes("tls")) {
      throw new LockUnsupported("the relay passes no offers on", "lock_unsupported");
    }
    const offer = isPlane && connection.passesOffers
      ? await makeOffer(this.identity, remote, id, locksBody(relay, taken)) : undefined;
    const entries = dialer?.entries(service);
    const fields = { guid: remote, service, mode, session: id, resume: route.hasBegun || undefined, offer };
    const said = await connection.request(entries?.length ? { ...fields, entries } : fields, timeout);
    if (said === null) throw new RequestTimeout("the relay has not answered", "request_timeout");
    if (said.code !== null) throw errorFor(said.code, said.reason, said.retry_after, said.last_seen);
    route.told(said.entries, "relay");
    if (said.ticket === null) {
      if (dialer === null) throw new PathFailed("the relay has made no plane");
      return dialer.dial(route.where);
    }
    const body = offer && said.offer.length ? await openAnswer(said.offer, remote, this.guid, id, offer) : null;
    const lock = offer || !agreed ? chosenBy(body, taken) : agreed.lock;
    if (lock === null) throw new LockUnsupported(`the other side takes no ${taken.join(" or ")}`, "lock_unsupported");
    if (offer || !agreed) route.agreed = { relay, offered: offer ? taken : [], lock };
    return this.legs.open(said.ticket, this.side(route, offer ? (route.agreed as Agreed) : { ...(route.agreed as Agreed), offered: [] }));
  }

  private noRelay(timeout: number): RelayUnavailable {
    const { status } = this.registration;
    return new RelayUnavailable(`no relay for ${timeout} s${status.state === "away" ? `: ${status.reason}` : ""}`);
  }

  private async byTicket(route: Route, ticket: string): Promise<Leg> {
    if (route.agreed === null) throw new PathFailed("nothing was agreed on");
    return this.legs.open(ticket, this.side(route, { ...route.agreed, offered: [] }));
  }

  private side(route: Route, agreed: Agreed): LockSide {
    const { remote, id } = route.terms;
    return { identity: this.identity, remote: keyOf(remote), session: id, agreed, isCaller: true };
  }
}

function isAway({ code }: RoamRelayError): boolean {
  return code === "peer_offline" || code === "unknown_peer" || code === "unknown_service";
}

/** Whether it is the relay's matter, and may be over when it is asked again. */
function isPassing(error: RoamRelayError): boolean {
  const { code, retryAfter } = error;
  if (code === "limit_exceeded") return retryAfter !== null;
  return (error instanceof RelayUnavailable && code === null) || (code !== null && PASSING.includes(code));
}

function checkService(service: string): void {
  if (typeof service !== "string" || !SERVICE.test(service)) throw new TypeError(`${JSON.stringify(service)} is no name of a service`);
}

/** The relay takes no other, and would end the connection. */
function checkTimeout(timeout: number): void {
  if (typeof timeout !== "number") throw new TypeError("timeout is a number of seconds");
  if (!(timeout > 0 && timeout <= 60)) throw new RangeError(`timeout is above 0 and at most 60 s, not ${timeout}`);
}

function checkSettings({ window, ...times }: SessionSettings): void {
  if (!(Number.isSafeInteger(window) && window >= 1024)) throw new RangeError("window is a whole number of 1,024 at least");
  for (const [name, seconds] of Object.entries(times)) {
    if (!(Number.isFinite(seconds) && seconds > 0)) throw new RangeError(`${name} is finite and above 0, not ${String(seconds)}`);
  }
}

/** How a relay is reached, and what is shown there. */
export interface Door {
  readonly url: URL;
  readonly invitation: Invitation | null;
}

/** @internal */
export async function doorOf({ relay, relayGuid, invitation }: PeerOptions): Promise<Door> {
  const url = relayUrl(relay);
  if (relayGuid != null) keyOf(relayGuid);
  return { url, invitation: invitation == null ? null : await Invitation.read(invitation) };
}

/** A relay's URL is `http://HOST:PORT` or `https://HOST:PORT` and nothing more. */
function relayUrl(text: string): URL {
  const url = new URL(text);
  const more = url.pathname.replace(/^\/$/, "") + url.search + url.hash + url.username + url.password;
  if (!["http:", "https:"].includes(url.protocol) || more) {
    throw new TypeError(`a relay is http://HOST:PORT or https://HOST:PORT, and not ${text}`);
  }
  return url;
}

function socketUrl(url: URL): string {
  return `${url.protocol === "https:" ? "wss:" : "ws:"}//${url.host}`;
}
