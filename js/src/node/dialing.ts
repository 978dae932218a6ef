/** Dialing the other side of a session: what is known of where it is, in order, the next one a while after the last
 * or when that has failed (RFC 8305), through the door. */

import { connect, type Socket } from "node:net";
import type { KeyObject } from "node:crypto";
import { once } from "node:events";
import { PathFailed } from "../errors.js";
import { keyOf } from "../identity.js";
import type { SignedEntry } from "../messages.js";
import type { Leg, Remote, Word } from "../path.js";
import { Deferred, now, pause } from "../time.js";
import { canonical, written, type Endpoint } from "./addresses.js";
import { Budgets, refusal, type Dial, type Here } from "./door.js";
import { openEntry, verifier, type Entry } from "./entries.js";
import type { Identity } from "./identity.js";
import { secured, type TlsPath } from "./tls.js";

const STAGGER_SECONDS = 0.25;
const DIAL_SECONDS = 3;
const MOST_SESSIONS = 8192;
/** Endpoints of one session that are remembered, dialed at once, and signatures that are checked a second, with a burst. */
const MOST_KNOWN = 32, MOST_DIALED = 8, CHECK_SECONDS = 0.25, MOST_CHECKED = 64;

interface Candidate extends Entry {
  word: Word;
  until: number;
}

/** What is known of where one other side is. */
interface Told {
  readonly of: Remote;
  readonly key: Uint8Array;
  readonly verifier: KeyObject;
  readonly candidates: Map<string, Candidate>;
  readonly dialing: Set<string>;
  pathHost: string | null;
  checked: number;
}

export class Dialing {
  private readonly told = new Map<string, Told>();
  private readonly budgets = new Budgets();
  private readonly sockets = new Set<Socket>();
  private readonly closed = new Deferred<void>();

  constructor(private readonly identity: Identity, private readonly rule: Dial, private readonly here: () => Here) {}

  hear(of: Remote, entries: readonly SignedEntry[], word: Word): void {
    const told = this.of(of);
    let oldest = Infinity;
    for (const signed of entries) {
      const time = now();
      // Who tells without end is not listened to: each costs a check.
      if (Math.max(told.checked, time) - time > MOST_CHECKED * CHECK_SECONDS) return;
      told.checked = Math.max(told.checked, time) + CHECK_SECONDS;
      const entry = openEntry(told.key, told.verifier, signed);
      if (entry === null || entry.service !== of.service) continue;
      oldest = Math.min(oldest, entry.seq);
      const key = written(entry);
      const known = told.candidates.get(key);
      if (known && known.seq > entry.seq) continue;
      told.candidates.delete(key);
      told.candidates.set(key, { ...entry, word: known?.word === "relay" ? "relay" : word, until: time + entry.lifetime });
      for (const first of told.candidates.keys()) if (told.candidates.size > MOST_KNOWN) told.candidates.delete(first);
    }
    // What it said before all of that, and says no more, is where it was.
    if (oldest < Infinity) for (const [key, { seq }] of told.candidates) if (seq < oldest) told.candidates.delete(key);
  }

  /** Where a path of a session leads to. */
  reached(of: Remote, host: string): void {
    this.of(of).pathHost = host;
  }

  forget(key: string): void {
    this.told.delete(key);
  }

  /** Dial nobody any more. */
  close(): void {
    this.closed.resolve();
    for (const socket of this.sockets) socket.destroy();
  }

  moved(): void {
    this.budgets.moved();
  }

  /** The first that proves its key. Throws `PathFailed`. */
  async dial(of: Remote): Promise<Leg> {
    const told = this.of(of);
    const said: string[] = [];
    const waiting = this.candidatesOf(told);
    const won = new Deferred<TlsPath>();
    const state = { isOver: false };
    const attempts: Promise<void>[] = [];
    const isWon = won.promise.then(() => undefined, () => undefined);
    for (const candidate of waiting.slice(0, MOST_DIALED)) {
      if (state.isOver) break;
      const place = written(candidate);
      if (told.dialing.has(place)) continue;
      const reason = this.refuses(candidate, told);
      if (reason !== null) {
        said.push(`${place}: ${reason}`);
        continue;
      }
      told.dialing.add(place);
      const attempt = this.attempt(candidate, of).then((path) => {
        if (state.isOver) path.cut();
        else {
          state.isOver = true;
          won.resolve(path);
        }
      }, (error: unknown) => {
        said.push(`${place}: ${error instanceof Error ? error.message : String(error)}`);
      }).finally(() => told.dialing.delete(place));
      attempts.push(attempt);
      await pause(STAGGER_SECONDS, attempt, isWon);
    }
    void Promise.all(attempts).then(() => {
      if (!state.isOver) won.reject(new PathFailed(said.length ? `nothing direct: ${said.join("; ")}` : "nothing direct is known"));
    });
    const path = await won.promise;
    return { path, ticket: null, admit: () => undefined };
  }

  private of(of: Remote): Told {
    let told = this.told.get(of.key);
    if (!told) {
      const key = keyOf(of.remote);
      told = { of, key, verifier: verifier(key), candidates: new Map(), dialing: new Set(), pathHost: null, checked: 0 };
      this.told.set(of.key, told);
      // The first is a session of long ago: what is known of it is told anew with its next path.
      for (const first of this.told.keys()) if (this.told.size > MOST_SESSIONS) this.told.delete(first);
    }
    return told;
  }

  /** What may be dialed for a session, best first: where the key was met, the peer's own choice, the latest. */
  private candidatesOf({ of, candidates }: Told): Candidate[] {
    const time = now();
    const isMet = (one: Candidate) => this.budgets.isMet(one, of.remote, time);
    const rank = (one: Candidate) => (isMet(one) ? 0 : one.word === "relay" ? 2 : 4) + (one.phase === "preferred" ? 0 : 1);
    return [...candidates.values()].filter((one) => one.phase !== "leaving" && (one.until > time || isMet(one)))
      .sort((one, other) => rank(one) - rank(other) || other.seq - one.seq);
  }

  private refuses(candidate: Candidate, { of, candidates, pathHost }: Told): string | null {
    const time = now();
    if (!this.budgets.isMet(candidate, of.remote, time)) {
      const disclosed = new Set([...candidates.values()].filter(({ word }) => word === "relay").map(({ host }) => host));
      const reason = refusal(candidate, candidate.word, { disclosed, pathHost }, this.here(), this.rule);
      if (reason !== null) return reason;
    }
    return this.budgets.take(candidate, of.remote, candidate.word, of.isCaller, time);
  }

  private async attempt(candidate: Candidate, { remote, isCaller }: Remote): Promise<TlsPath> {
    const { host, port, word } = candidate;
    const endpoint: Endpoint = { host, port };
    const began = now();
    const wasMet = this.budgets.isMet(endpoint, remote, began);
    const socket = connect({ host, port, noDelay: true });
    socket.on("error", () => socket.destroy());
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    try {
      await pause(DIAL_SECONDS, once(socket, "connect"), once(socket, "close"));
      if (socket.destroyed || socket.connecting) throw new PathFailed(socket.destroyed ? "refused" : `no answer in ${DIAL_SECONDS} s`);
      const here = canonical(socket.localAddress ?? "");
      const ends = { kind: "direct" as const, there: host, ...(here === null ? {} : { here }) };
      const left = Math.max(0.1, began + DIAL_SECONDS - now());
      const path = await secured(socket, { identity: this.identity, remote, isClient: true }, ends, left);
      this.sockets.delete(socket); // It is the session's.
      this.budgets.meet(endpoint, remote, word, isCaller, now());
      return path;
    } catch (error) {
      socket.destroy();
      this.budgets.fail(endpoint, remote, word, now());
      // What is dialed next, and when, tells nobody what was there.
      if (word === "told" && !wasMet) await pause(began + DIAL_SECONDS - now(), this.closed.promise);
      throw error;
    }
  }
}
