/** What others ask of this peer: sessions with its services, and next paths of those that it has
 * (docs/protocol.md §8, §10). Whatever strangers cause is counted, for all and for each of them. */

import { equal, NOTHING, toHex, type Bytes } from "./bytes.js";
import { ProtocolViolation, RoamRelayError, SessionLost, type Code } from "./errors.js";
import { keyOf, type Identity } from "./identity.js";
import type { ControlConnection } from "./control.js";
import type { Legs } from "./legs.js";
import type { Listener } from "./listener.js";
import { lockBody, readLocks, type Agreed } from "./lock.js";
import { pack } from "./messagepack.js";
import type { Message, PathHello } from "./messages.js";
import { answerOffer, openOffer } from "./offer.js";
import { HeadReader, type Route, type Terms } from "./route.js";
import { Session } from "./session.js";
import { pause } from "./time.js";

type Request = Message<"service_request_from">;

/** What the peer lends. */
export interface Host {
  readonly identity: Identity;
  readonly routes: ReadonlyMap<string, Route>;
  readonly listeners: ReadonlyMap<string, Listener>;
  readonly legs: Legs;
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

export class Incoming {
  /** Whose legs are being opened, by ticket. */
  private readonly opening = new Map<string, string>();

  constructor(private readonly host: Host) {}

  /** Somebody asks. Never throws. */
  async asked(connection: ControlConnection, request: Request): Promise<void> {
    const { identity } = this.host;
    const { ticket } = request;
    let isEntered = false;
    const say = (fields: { verdict: string; code?: Code; reason?: string; offer?: Bytes }) =>
      connection.say({ type: "service_answer", request: request.request, ...fields });
    try {
      const known = this.host.routes.get(toHex(request.session));
      let code = this.refuses(request, known);
      // Entered before anything is waited for, so that it counts for the next; the same may come twice.
      if (code === null && ticket !== null && !this.opening.has(ticket)) {
        this.opening.set(ticket, request.guid);
        isEntered = true;
      }
      let agreed: Agreed | null = null;
      let offer: Bytes | undefined;
      if (code === null && request.offer.length) {
        const body = await openOffer(request.offer, request.guid, identity.guid, request.session);
        agreed = readLocks(body);
        if (agreed) offer = await answerOffer(identity, request.guid, request.session, request.offer, lockBody());
      } else if (known?.agreed) agreed = { ...known.agreed, offered: [] }; // A ticket asks for the plane.
      if (code === null && agreed === null) code = "lock_unsupported";
      if (code !== null) {
        say({ verdict: "refused", code, reason: code === "lock_unsupported" ? "a page takes no TLS of its own" : "" });
        return;
      }
      if (offer && known) known.agreed = agreed;
      say(offer ? { verdict: "accepted", offer } : { verdict: "accepted" });
      if (isEntered) await this.serve(request, known, agreed as Agreed);
    } catch (error) {
      // A path that came to nothing is the other side's to try again.
      if (!(error instanceof RoamRelayError)) console.error(error);
    } finally {
      if (isEntered) this.opening.delete(ticket as string);
    }
  }

  private refuses({ guid, service, mode, session, ticket, resume }: Request, known: Route | undefined): Code | null {
    if (resume) {
      const same = known && known.terms.remote === guid && known.terms.service === service && known.terms.mode === mode;
      if (!same) return "session_unknown";
    } else {
      if (!this.host.listeners.has(service)) return "unknown_service";
      if (known) return "session_unknown";
      const of = [...this.host.routes.values()].filter((route) => route.terms.remote === guid).length;
      if (of >= SESSIONS_OF_ONE) return "limit_exceeded";
    }
    // Without a plane there is only what this peer cannot dial, nor be dialed for.
    if (ticket === null || session.length !== 16) return "no_endpoint";
    const legs = [...this.opening.values()];
    return legs.length >= MOST_LEGS || legs.filter((one) => one === guid).length >= LEGS_OF_ONE ? "limit_exceeded" : null;
  }

  private async serve(request: Request, known: Route | undefined, agreed: Agreed): Promise<void> {
    const { guid, session, ticket } = request;
    const side = { identity: this.host.identity, remote: keyOf(guid), session, agreed, isCaller: false };
    const leg = await this.host.legs.open(ticket as string, side);
    const head = new HeadReader(leg.path, EARLY_BYTES);
    try {
      const hello = await head.read();
      if (hello.type !== "path_hello") throw new ProtocolViolation("no hello");
      const route = known ?? this.host.create(termsOf(request));
      // While the program decides, another leg of this session may have come, or the listener gone.
      const refusal = await this.judge(route, hello, known === undefined) ?? (known ? null : this.hasNoPlace(route));
      if (refusal !== null) {
        await leg.path.send(pack({ type: "path_reject", ...refusal }));
        await leg.path.close();
        return;
      }
      route.welcome(leg, hello, head.rest);
      // What stood behind the hello may have ended it: nobody would forget it any more.
      if (known === undefined && !(route.outcome instanceof SessionLost)) this.begin(route, hello, agreed);
    } catch (error) {
      leg.path.cut();
      throw error;
    }
  }

  /** Why a hello is not welcome, in the order of docs/protocol.md §10. */
  private async judge(route: Route, hello: PathHello, isFirst: boolean): Promise<Refusal | null> {
    const { id, remote, service } = route.terms;
    const code = route.judge(hello);
    if (code === "version_unsupported") return refuse(code);
    if (!equal(hello.session, id) || (isFirst && hello.resume)) return refuse("session_unknown");
    if (code !== null || !isFirst) return code === null ? null : refuse(code);
    const refusal = this.hasNoPlace(route);
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

  /** Why a first path cannot begin its session here and now. */
  private hasNoPlace(route: Route): Refusal | null {
    const { remote, service } = route.terms;
    if (this.host.routes.has(route.key)) return refuse("session_unknown");
    const listener = this.host.listeners.get(service);
    if (!listener) return refuse("unknown_service");
    return listener.hasRoom(remote) ? null : refuse("limit_exceeded", "too many sessions wait for the program");
  }

  private begin(route: Route, hello: PathHello, agreed: Agreed): void {
    route.agreed = agreed;
    this.host.add(route);
    const session = new Session(route, hello.metadata);
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
