/** What is dialed by another's word, and how often (docs/addresses.md, "Whom a peer dials"). Entries are signed by
 * the peer that names them: that says who it was, not that it is there. Pure: times are seconds, and handed in. */

import {
  isLinkLocal, isLoopback, isNear, isNobody, isPublic, isWellKnown, networkOf, shareBlock, unwrapped, written,
  type Endpoint, type Interface,
} from "./addresses.js";
import type { Word } from "../path.js";

/** `careful`: what somebody beside the other side speaks for; `proven`: what the relay says, and no other; `open`: all,
 * in a network of one's own. */
export type Dial = "careful" | "proven" | "open";

/** What is known of this host. */
export interface Here {
  readonly interfaces: readonly Interface[];
  /** Where this peer has met its relay. */
  readonly relay: Endpoint | null;
  /** Where the relay sees this peer. */
  readonly observed: string;
  /** The port at which it listens. */
  readonly listening: number;
}

/** What is known of where the other side is. */
export interface Known {
  /** Addresses that the relay has told. */
  readonly disclosed: ReadonlySet<string>;
  /** The other end of the session's last direct path. */
  readonly pathHost: string | null;
}

/** Why an endpoint is not dialed where the other side's key was not met; null where it may be. */
export function refusal(endpoint: Endpoint, word: Word, known: Known, here: Here, dial: Dial): string | null {
  const { port } = endpoint;
  const host = unwrapped(endpoint.host);
  if (host === null) return "only the network knows which address that is";
  if (isNobody(host)) return "nobody is at such an address";
  const own = here.interfaces.map((one) => one.host);
  const isHere = (one: string) => isLoopback(one) || own.includes(one);
  const { relay } = here;
  if (relay?.port === port && (relay.host === host || (isHere(relay.host) && isHere(host)))) return "this peer's own relay";
  if (port === here.listening && isHere(host)) return "this peer itself";
  if (dial === "open") return null;
  if (dial === "proven" && word !== "relay") return "it is not proven, and dial is 'proven'";
  if (endpoint.host !== known.pathHost) {
    if (isLinkLocal(host)) return "a link-local address";
    const disclosed = [...known.disclosed];
    if (isHere(host)) {
      const isMet = (known.pathHost !== null && isHere(known.pathHost))
        || (relay !== null && isHere(relay.host) && disclosed.some(isHere))
        || disclosed.some((one) => !isLoopback(one) && own.includes(one));
      if (!isMet) return "this host itself, and the other side was not met here";
    } else if (!isPublic(host)) {
      const link = here.interfaces.find((one) => isNear(host, one));
      const said = known.disclosed.has(endpoint.host);
      const isFromOutside = here.observed !== "" && isPublic(here.observed);
      const isMet = said && !isFromOutside
        ? link !== undefined || (relay !== null && (isHere(relay.host) || shareBlock(host, relay.host)))
        : link !== undefined && (said || disclosed.includes(here.observed)
          || [...disclosed, ...(known.pathHost ? [known.pathHost] : [])].some((one) => isNear(one, link)));
      if (!isMet) return "a private address, and nothing else says that the peer is there";
    }
  }
  // The relay is not asked here whether it has met the key: at a public address, its word is taken.
  const isOdd = isWellKnown(port) && !(known.disclosed.has(endpoint.host) && isPublic(host));
  return isOdd ? `port ${port} is a well-known service's` : null;
}

interface Rate {
  readonly burst: number;
  readonly seconds: number;
}

/** By the word of the relay, and of the other side: of one peer, of one endpoint of it, to one address, to one
 * network, in all; and for how long who has refused twice is left alone. */
const RATES: { readonly [W in Word]: readonly [Rate, Rate, Rate, Rate, Rate] } = {
  relay: [rate(16, 5), rate(6, 10), rate(256, 1), rate(1024, 0.25), rate(1024, 0.125)],
  told: [rate(4, 60), rate(2, 60), rate(4, 60), rate(8, 30), rate(64, 1)],
};
const ALONE: { readonly [W in Word]: number } = { relay: 5, told: 60 };
const MOST_ALONE: { readonly [W in Word]: number } = { relay: 60, told: 3600 };
const MOST_REMEMBERED = 4096;
const MET_SECONDS = 600;

function rate(burst: number, seconds: number): Rate {
  return { burst, seconds };
}

/** How much is dialed, and who is left alone. Where a key was met, it costs nothing. */
export class Budgets {
  /** When each share is whole again. */
  private readonly shares = new Map<string, number>();
  private readonly met = new Map<string, number>();
  private readonly failures = new Map<string, { count: number; until: number }>();

  /** Take what a dial costs; why not, where it may not be. `called` says that this program itself calls. */
  take(endpoint: Endpoint, guid: string, word: Word, called: boolean, time: number): string | null {
    if (this.isMet(endpoint, guid, time)) return null;
    const failed = this.failures.get(this.failureKey(endpoint, guid, word));
    if (failed && failed.count >= 2 && time < failed.until) return "it has refused twice, and is left alone for a while";
    const wanted = this.wanted(endpoint, guid, word, called);
    for (const [key, { burst, seconds }] of wanted) {
      if (Math.max(this.shares.get(key) ?? 0, time) - time > (burst - 1) * seconds) return `too many dials by ${word === "relay" ? "the relay's" : "the other side's"} word`;
    }
    for (const [key, { seconds }] of wanted) {
      const until = Math.max(this.shares.get(key) ?? 0, time) + seconds;
      this.shares.delete(key); // What is used last is forgotten last.
      this.shares.set(key, until);
    }
    bounded(this.shares, (until) => until <= time);
    return null;
  }

  /** The key has shown there: it is free from then on, and what it has cost is given back. */
  meet(endpoint: Endpoint, guid: string, word: Word, called: boolean, time: number): void {
    if (!this.isMet(endpoint, guid, time)) {
      for (const [key, { seconds }] of this.wanted(endpoint, guid, word, called)) {
        this.shares.set(key, (this.shares.get(key) ?? time) - seconds);
      }
    }
    const key = `${guid} ${written(endpoint)}`;
    this.met.delete(key);
    this.met.set(key, time + MET_SECONDS);
    this.failures.delete(this.failureKey(endpoint, guid, word));
    bounded(this.met, (until) => until <= time);
  }

  fail(endpoint: Endpoint, guid: string, word: Word, time: number): void {
    const key = this.failureKey(endpoint, guid, word);
    const count = (this.failures.get(key)?.count ?? 0) + 1;
    const pause = Math.min(ALONE[word] * 2 ** Math.max(0, count - 2), MOST_ALONE[word]);
    this.failures.delete(key);
    this.failures.set(key, { count, until: time + pause });
    bounded(this.failures, ({ until }) => until <= time);
  }

  isMet(endpoint: Endpoint, guid: string, time: number): boolean {
    return (this.met.get(`${guid} ${written(endpoint)}`) ?? 0) > time;
  }

  /** This host has moved: who could not be reached from where it was may be now. */
  moved(): void {
    this.failures.clear();
  }

  /** By the word of one that nobody else can speak for: who only tells of an endpoint keeps others from none. */
  private failureKey(endpoint: Endpoint, guid: string, word: Word): string {
    return `${word} ${guid} ${written(endpoint)}`;
  }

  private wanted(endpoint: Endpoint, guid: string, word: Word, called: boolean): [string, Rate][] {
    const [ofPeer, ofOne, toAddress, toNetwork, inAll] = RATES[word];
    const { host } = endpoint;
    const mine: [string, Rate][] = called && word === "relay" ? []
      : [[`peer ${word} ${guid}`, ofPeer], [`one ${word} ${guid} ${written(endpoint)}`, ofOne]];
    return [...mine, [`to ${word} ${host}`, toAddress], [`net ${word} ${networkOf(host)}`, toNetwork], [`all ${word}`, inAll]];
  }
}

/** Forget what means nothing any more, and the oldest beyond a bound. */
function bounded<T>(map: Map<string, T>, isOver: (value: T) => boolean): void {
  if (map.size <= MOST_REMEMBERED) return;
  for (const [key, value] of map) if (isOver(value)) map.delete(key);
  for (const key of map.keys()) {
    if (map.size <= MOST_REMEMBERED) break;
    map.delete(key);
  }
}
