/** Paths under TLS 1.3 (docs/protocol.md §10): mutual, with certificates that nobody has issued. Who the other side
 * is, its key says, and nothing else in its certificate. */

import { Duplex } from "node:stream";
import { connect, TLSSocket } from "node:tls";
import type { Bytes } from "../bytes.js";
import { PathFailed } from "../errors.js";
import type { Path, PathKind } from "../path.js";
import type { Stream } from "../stream.js";
import { pause } from "../time.js";
import { guidIn, type Identity } from "./identity.js";

const CLOSE_SECONDS = 2;

/** A leg of a plane as TLS takes it. It ends as a whole, when it is destroyed. */
class LegDuplex extends Duplex {
  private isReading = false;

  constructor(private readonly stream: Stream) {
    super({ allowHalfOpen: true });
  }

  override _read(): void {
    if (this.isReading) return;
    this.isReading = true;
    void this.stream.read().then((data) => {
      this.isReading = false;
      this.push(data);
    });
  }

  override _write(data: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    // A copy: what is written may be used again before it has left.
    this.stream.write(new Uint8Array(data));
    this.drained(done);
  }

  override _final(done: (error?: Error | null) => void): void {
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.stream.close();
    done(error);
  }

  /** A WebSocket tells nobody when it has written. */
  private drained(done: (error?: Error | null) => void): void {
    if (this.stream.buffered < 1 << 20 || !this.stream.isOpen) done();
    else void pause(0.02).then(() => this.drained(done));
  }
}

export interface Ends {
  readonly kind: PathKind;
  readonly there?: string;
  readonly here?: string;
}

/** A path whose other end has proven its key. */
export class TlsPath implements Path {
  readonly lock = "tls";
  readonly kind: PathKind;
  readonly there?: string;
  readonly here?: string;
  private waiting: (() => void) | null = null;
  private hasEnded = false;

  constructor(private readonly socket: TLSSocket, private readonly below: Duplex, readonly guid: string, ends: Ends) {
    this.kind = ends.kind;
    if (ends.there !== undefined) this.there = ends.there;
    if (ends.here !== undefined) this.here = ends.here;
    const woken = () => {
      const { waiting } = this;
      this.waiting = null;
      waiting?.();
    };
    const over = () => {
      this.hasEnded = true;
      woken();
    };
    socket.on("readable", woken).on("close", over).on("error", over).on("end", () => {
      // The other side closes: it waits for our word, which leaves behind all that was given.
      socket.end(() => this.destroy());
      over();
    });
  }

  get buffered(): number {
    return this.socket.writableLength;
  }

  async send(data: Uint8Array): Promise<void> {
    const { socket } = this;
    if (!data.length || socket.destroyed || socket.writableEnded) return;
    // A copy: Node takes the bytes later.
    if (socket.write(new Uint8Array(data))) return;
    await new Promise<void>((done) => {
      const over = () => {
        socket.off("drain", over).off("close", over);
        done();
      };
      socket.on("drain", over).on("close", over);
      if (socket.destroyed) over();
    });
  }

  async receive(): Promise<Bytes | null> {
    for (;;) {
      const data = this.socket.read() as Buffer | null;
      if (data !== null && data.length) return new Uint8Array(data);
      if (this.hasEnded || this.socket.destroyed) return null;
      await new Promise<void>((done) => (this.waiting = done));
    }
  }

  async close(): Promise<void> {
    const { socket } = this;
    socket.end();
    const ended = new Promise<void>((done) => {
      socket.on("end", done).on("close", done);
      if (this.hasEnded) done();
      else socket.resume(); // Nobody reads any more, and the end stands behind what has arrived.
    });
    await pause(CLOSE_SECONDS, ended);
    // What was given has left by then, or never will.
    if (!socket.writableFinished) await pause(CLOSE_SECONDS, new Promise((done) => socket.on("finish", done).on("close", done)));
    this.destroy();
  }

  cut(): void {
    this.hasEnded = true;
    if (!this.socket.readableEnded || this.socket.destroyed) this.destroy();
    else setTimeout(() => this.destroy(), CLOSE_SECONDS * 1000).unref();
  }

  private destroy(): void {
    this.socket.destroy();
    this.below.destroy();
  }
}

/** The other side's key is `remote`, or whichever it is where that is null. */
export interface TlsSide {
  readonly identity: Identity;
  readonly remote: string | null;
  readonly isClient: boolean;
}

/** Shake hands on a stream, within `seconds`. Throws `PathFailed`, and the stream is destroyed then. */
export async function secured(below: Duplex, side: TlsSide, ends: Ends, seconds: number): Promise<TlsPath> {
  const { identity: { secureContext }, remote, isClient } = side;
  // Whose key it must be is our comparison, below: TLS has proven that the other side has it.
  const socket = isClient
    ? connect({ socket: below, secureContext, rejectUnauthorized: false, checkServerIdentity: () => undefined, minVersion: "TLSv1.3" })
    : new TLSSocket(below, { isServer: true, secureContext, requestCert: true, rejectUnauthorized: false });
  let fault: Error | null = null;
  const look = () => void socket.read(0);
  const shaken = new Promise<boolean>((done) => {
    socket.on(isClient ? "secureConnect" : "secure", () => done(true));
    // Node has two names for it, by when it happens.
    for (const what of ["error", "_tlsError"]) {
      socket.on(what, (error: Error) => {
        fault ??= error;
        done(false);
      });
    }
    // Nobody reads yet, and an end would not be seen.
    socket.on("readable", look).on("end", () => done(false)).on("close", () => done(false));
    below.on("error", (error) => {
      fault ??= error;
      done(false);
    });
    below.on("close", () => done(false));
  });
  let isLate = true;
  await pause(seconds, shaken.then(() => (isLate = false)));
  socket.off("readable", look);
  const isDone = !isLate && (await shaken);
  const guid = isDone && socket.getProtocol() === "TLSv1.3" ? guidOf(socket) : null;
  if (guid !== null && (remote === null || guid === remote)) return new TlsPath(socket, below, guid, ends);
  socket.destroy();
  below.destroy();
  if (isLate) throw new PathFailed(`no TLS in ${seconds} s`);
  if (!isDone) throw new PathFailed(`TLS failed: ${(fault as Error | null)?.message ?? "the connection was cut"}`);
  throw new PathFailed(guid === null ? "the other side has shown no Ed25519 key" : "another key than that of the other side");
}

function guidOf(socket: TLSSocket): string | null {
  const certificate = socket.getPeerX509Certificate();
  return certificate ? guidIn(certificate.publicKey) : null;
}

/** TLS on a leg of a plane. */
export function securedLeg(stream: Stream, side: TlsSide, seconds: number): Promise<TlsPath> {
  return secured(new LegDuplex(stream), side, { kind: "relayed" }, seconds);
}
