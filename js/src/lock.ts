/** The lock of a path over a plane (docs/protocol.md §18): Noise NN under the keys of one path, and a
 * signature of each side over all that the handshake was. */

import { concat, equal, NOTHING, utf8, type Bytes } from "./bytes.js";
import { PathFailed, ProtocolViolation } from "./errors.js";
import { list, bin, matching, or, read, isMap } from "./fields.js";
import { verify, type Identity } from "./identity.js";
import { pack, unpack, type Fields } from "./messagepack.js";
import { Cipher, EPHEMERAL_BYTES, ephemeral, Handshake, TAG_BYTES, type Ephemeral } from "./noise.js";
import type { Path } from "./path.js";
import { Exact, type Stream } from "./stream.js";

/** The lock of this module, and the only one that a page takes: it has no TLS of its own. */
export const LOCK = "noise";
export type LockWord = "tls" | typeof LOCK;
/** What is taken here, but in Node. */
export const LOCKS: readonly LockWord[] = [LOCK];
const HEAD = Uint8Array.of(0x52, 0x52, 0x01, 0x02);
const LABEL = utf8("roam-relay/1 noise\0");
const MAX_PLAIN = 16_384;
const MAX_RECORD = MAX_PLAIN + TAG_BYTES;
const RECORDS_PER_KEY = 1 << 20;
const SIGNATURE = 64;
const CALLER = Uint8Array.of(1), CALLEE = Uint8Array.of(2);
const CLOSE_SECONDS = 2;

// -- what is offered and chosen -------------------------------------------------------------------

/** What a plane of a session is locked by, and how that came about. */
export interface Agreed {
  /** The key of the relay, as who has asked knows it. */
  readonly relay: Bytes;
  /** The locks that who has asked has offered; empty where a ticket asks for the plane. */
  readonly offered: readonly string[];
  readonly lock: LockWord;
}

const WORD = matching(/^[!-~]{1,16}$/);
const OFFER = { locks: list(WORD, 8), relay: or(null, bin(32, 32)) };
const ANSWER = { lock: or("tls", WORD) };

function fieldsOf(body: Uint8Array | null): Fields {
  if (body === null) return {};
  try {
    const fields = unpack(body);
    return isMap(fields) ? fields : {};
  } catch {
    return {};
  }
}

/** The body of a request's offer. */
export function locksBody(relay: Bytes, taken = LOCKS): Bytes {
  return pack({ locks: taken, relay });
}

/** The body of an answer's offer. */
export function lockBody(lock: LockWord = LOCK): Bytes {
  return pack({ lock });
}

/** What is made of a request's offer, by who takes some locks: `tls` where both do, else the other one; null
 * where they have none in common. A request that says nothing of locks is that of a side with TLS alone. */
export function readLocks(body: Uint8Array | null, taken = LOCKS): Agreed | null {
  let locks: readonly string[] = [], relay: Bytes | null = null;
  try {
    ({ locks, relay } = read(OFFER, fieldsOf(body)));
  } catch {
    // It cannot be read, and is as none.
  }
  if (relay === null || !locks.length) [locks, relay] = [[], new Uint8Array(32)];
  const offered = locks.length ? locks : ["tls"];
  const lock = (["tls", LOCK] as const).find((one) => offered.includes(one) && taken.includes(one));
  return lock ? { relay, offered: locks, lock } : null;
}

/** What an answer has chosen; null where that is nothing that this side takes. */
export function chosenBy(body: Uint8Array | null, taken = LOCKS): LockWord | null {
  let lock = "tls";
  try {
    ({ lock } = read(ANSWER, fieldsOf(body)));
  } catch {
    // As none.
  }
  return taken.find((one) => one === lock) ?? null;
}

// -- the handshake --------------------------------------------------------------------------------

/** One side of a lock: who it is, and what it expects of the other one. */
export interface LockSide {
  readonly identity: Identity;
  /** The other side's key. */
  readonly remote: Bytes;
  readonly session: Bytes;
  readonly agreed: Agreed;
  readonly isCaller: boolean;
}

export function prologue(side: LockSide): Bytes {
  const keys = [side.identity.publicKey, side.remote];
  const [caller, callee] = (side.isCaller ? keys : keys.reverse()) as [Bytes, Bytes];
  const { relay, offered } = side.agreed;
  const word = (text: string) => concat(Uint8Array.of(text.length), utf8(text));
  return concat(
    LABEL, caller, callee, side.session, relay, Uint8Array.of(offered.length), ...offered.map(word), word(LOCK),
  );
}

/** A handshake that has begun, and a caller's first bytes: they may go with the request for its leg (R18.9). */
export interface Begun {
  readonly handshake: Handshake;
  readonly first: Bytes;
}

export async function begin(side: LockSide, own?: Ephemeral): Promise<Begun> {
  const handshake = await Handshake.begin(prologue(side), own ?? (await ephemeral()));
  return { handshake, first: side.isCaller ? concat(HEAD, await handshake.first()) : NOTHING };
}

/** Lock a stream; `isSent` says that the first bytes are on their way. Throws `ProtocolViolation` or
 * `PathFailed`, and leaves it to who called to close it. */
export async function lock(stream: Stream, side: LockSide, { handshake, first }: Begun, isSent = false): Promise<LockedPath> {
  const input = new Exact(stream);
  const headed = async (size: number): Promise<Bytes> => {
    // First what says which lock it is: another one may have less behind that (R18.7).
    const head = await input.take(HEAD.length);
    if (head !== null && !equal(head, HEAD)) throw new ProtocolViolation("another lock than was agreed on");
    const message = await input.take(size);
    if (message === null) throw new PathFailed("the plane has ended");
    return message;
  };
  if (side.isCaller) {
    if (!isSent) stream.write(first);
    await handshake.takeSecond(await headed(EPHEMERAL_BYTES + TAG_BYTES));
  } else {
    await handshake.takeFirst(await headed(EPHEMERAL_BYTES));
    stream.write(concat(HEAD, await handshake.second()));
  }
  const [ofCaller, ofCallee] = await handshake.split();
  const path = new LockedPath(stream, input, ...(side.isCaller ? [ofCaller, ofCallee] as const : [ofCallee, ofCaller] as const));
  const [mine, its] = side.isCaller ? [CALLER, CALLEE] : [CALLEE, CALLER];
  // Who calls proves itself to nobody but the callee.
  const prove = async () => path.send(await side.identity.sign("lock", mine, handshake.hash));
  if (!side.isCaller) await prove();
  const proof = await path.one();
  if (proof === null) throw new PathFailed("the plane has ended");
  if (proof.length !== SIGNATURE || !(await verify(side.remote, proof, "lock", its, handshake.hash))) {
    throw new ProtocolViolation("another key than that of the other side");
  }
  if (side.isCaller) await prove();
  return path;
}

// -- records --------------------------------------------------------------------------------------

/** A stream that is locked: what goes in on one side comes out on the other, or nothing does. */
export class LockedPath implements Path {
  readonly kind = "relayed";
  readonly lock = LOCK;
  private held: Bytes = NOTHING;
  private sending: Promise<void> = Promise.resolve();
  private isClosing = false;
  private receiving: Promise<Bytes | null> | null = null;
  /** Whether the other side has said that nothing more follows. */
  hasEnded = false;

  constructor(
    private readonly stream: Stream, private readonly input: Exact, private readonly out: Cipher,
    private readonly into: Cipher,
  ) {}

  get buffered(): number {
    return this.stream.buffered;
  }

  /** Seal bytes and write them, behind all that was given before. */
  send(data: Uint8Array): Promise<void> {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < data.length; at += MAX_PLAIN) pieces.push(data.subarray(at, at + MAX_PLAIN));
    this.sending = this.sending.then(() => this.seal(pieces));
    return this.sending;
  }

  /** What has arrived since, one record or many; null at the end, by a word or without. Throws
   * `ProtocolViolation` where it is not what the other side has sent, whole and in order. */
  receive(): Promise<Bytes | null> {
    this.receiving = this.next();
    return this.receiving;
  }

  private async next(): Promise<Bytes | null> {
    for (;;) {
      const records = this.whole();
      if (records.length) {
        const opened = await this.open(records);
        if (opened.length) return concat(...opened);
      }
      if (this.hasEnded) return null;
      const data = await this.input.more();
      if (data === null) return null;
      this.held = this.held.length ? concat(this.held, data) : data;
    }
  }

  /** The content of the next record alone. */
  async one(): Promise<Bytes | null> {
    const head = await this.input.take(2);
    if (head === null) return null;
    const size = sizeOf(head, 0);
    const sealed = await this.input.take(size);
    return sealed === null ? null : ((await this.open([sealed]))[0] ?? NOTHING);
  }

  /** Say that nothing more follows, and wait a while for the other side's word. Who receives must
   * not do so again. */
  async close(): Promise<void> {
    if (this.isClosing) return;
    this.isClosing = true;
    this.sending = this.sending.then(() => this.seal([NOTHING]));
    const timer = setTimeout(() => this.stream.close(), CLOSE_SECONDS * 1000);
    try {
      await this.sending;
      await this.receiving;
      while ((await this.receive()) !== null);
    } catch {
      // It was a violation, and is over all the same.
    } finally {
      clearTimeout(timer);
      this.stream.close();
    }
  }

  /** End at once, without a word. */
  cut(): void {
    this.isClosing = true;
    this.stream.close();
  }

  private async seal(pieces: readonly Uint8Array[]): Promise<void> {
    for (let at = 0; at < pieces.length;) {
      const count = Math.min(pieces.length - at, RECORDS_PER_KEY - (this.out.count % RECORDS_PER_KEY));
      const sealed = await Promise.all(pieces.slice(at, at + count).map((piece) => this.out.seal(piece)));
      this.stream.write(concat(...sealed.flatMap((one) => [Uint8Array.of(one.length >> 8, one.length & 255), one])));
      at += count;
      if (this.out.count % RECORDS_PER_KEY === 0) await this.out.renew();
    }
  }

  private whole(): Bytes[] {
    const records: Bytes[] = [];
    let at = 0;
    while (this.held.length - at >= 2) {
      const end = at + 2 + sizeOf(this.held, at);
      if (end > this.held.length) break;
      records.push(this.held.slice(at + 2, end));
      at = end;
    }
    if (at) this.held = this.held.slice(at);
    return records;
  }

  private async open(records: readonly Bytes[]): Promise<Bytes[]> {
    const opened: Bytes[] = [];
    for (let at = 0; at < records.length && !this.hasEnded;) {
      const count = Math.min(records.length - at, RECORDS_PER_KEY - (this.into.count % RECORDS_PER_KEY));
      for (const plain of await Promise.all(records.slice(at, at + count).map((one) => this.into.open(one)))) {
        if (!plain.length) {
          this.hasEnded = true;
          break;
        }
        opened.push(plain);
      }
      at += count;
      if (this.into.count % RECORDS_PER_KEY === 0) await this.into.renew();
    }
    return opened;
  }
}

function sizeOf(bytes: Uint8Array, at: number): number {
  const size = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (size < TAG_BYTES || size > MAX_RECORD) throw new ProtocolViolation("a record whose length no record has");
  return size;
}
