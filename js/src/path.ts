/** A path to the other side, proven and locked, whatever is beneath it; and what a peer in Node has beside
 * that of a page, which is the same code without it. Types alone. */

import type { Bytes } from "./bytes.js";
import type { LockSide, LockWord } from "./lock.js";
import type { Fields } from "./messagepack.js";
import type { SignedEntry } from "./messages.js";
import type { Stream } from "./stream.js";

export type PathKind = "relayed" | "direct";

export interface Path {
  readonly kind: PathKind;
  readonly lock: LockWord;
  /** Bytes that were given and have not left. */
  readonly buffered: number;
  /** Send behind all that was given before; resolves where more may follow. */
  send(data: Uint8Array): Promise<void>;
  /** What has arrived since; null at the end. Throws `ProtocolViolation`. */
  receive(): Promise<Bytes | null>;
  /** Say that nothing more follows, and wait a while for the other side's word. */
  close(): Promise<void>;
  /** End at once, without a word. */
  cut(): void;
  /** Of a direct path: the addresses of the other end, and of this one. */
  readonly there?: string;
  readonly here?: string;
}

/** A path, and the ticket that asks for the next one. */
export interface Leg {
  readonly path: Path;
  readonly ticket: string | null;
  /** Let wait on it what a session's window allows: for one whose hello is welcome, or that was dialed. */
  admit(): void;
}

/** By whose word something can be dialed: the relay's, which has met the key there or passes the address on; or
 * the other side's, in a hello, a welcome or a session. */
export type Word = "relay" | "told";

/** The other side of a session, as what can be dialed depends on it. */
export interface Remote {
  readonly key: string;
  readonly remote: string;
  readonly service: string;
  /** Whether this side has opened the session. */
  readonly isCaller: boolean;
}

/** Where a control connection comes from, and leads to, as the sockets say; and where the relay sees it. */
export interface Seen {
  readonly here: string | null;
  readonly relay: { readonly host: string; readonly port: number } | null;
  readonly observed: string;
}

/** What the peer does for its direct paths. */
export interface DirectHost {
  /** A path whose dialer has proven its key: says what became of it to nobody. */
  came(guid: string, leg: Leg): Promise<void>;
  /** This host's endpoints are others now; `gone` are addresses that it had. */
  changed(gone: ReadonlySet<string>): void;
}

/** TLS and TCP: in Node. */
export interface Native {
  /** The locks that are taken on planes. */
  readonly locks: readonly LockWord[];
  /** Put TLS on the leg of a plane. */
  secure(stream: Stream, side: LockSide): Promise<Path>;
  /** Whether paths are dialed and listened for. */
  readonly isDirect: boolean;
  start(host: DirectHost): void;
  /** This peer's endpoints for a service, signed; `seq` is the number of its record. */
  entries(service: string, seq?: number): Fields[];
  /** Who speaks to the relay now. */
  seen(seen: Seen): void;
  /** Somebody says where the other side is. */
  told(of: Remote, entries: readonly SignedEntry[], word: Word): void;
  /** The session has a direct path, whose other end is there. */
  reached(of: Remote, host: string): void;
  /** Dial what is known of it; the first that proves its key. Throws `PathFailed`. */
  dial(of: Remote): Promise<Leg>;
  /** The session is over. */
  forget(key: string): void;
  close(): void;
}
