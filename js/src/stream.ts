/** A stream of bytes each way over a WebSocket: a control connection, or a leg of a plane
 * (docs/protocol.md §3, §18). What a page cannot see comes as close codes and as a first text. */

import { concat, NOTHING, type Bytes } from "./bytes.js";
import { codeOf, PathFailed, RelayUnavailable, type Code } from "./errors.js";
import { openSocket, type Socket } from "#socket";

/** For pages, and behind it what an older relay knows. */
const PROTOCOLS = ["roam-relay.1-page", "roam-relay.1"];
const OPEN_SECONDS = 10;

/** Why a relay has refused a stream: behind the 101, as a close frame. */
export interface StreamRefusal {
  readonly code: Code;
  readonly retryAfter: number | null;
}

export interface Stream {
  /** All that has arrived since; null at the end. */
  read(): Promise<Bytes | null>;
  write(data: Uint8Array): void;
  /** Bytes that were written and have not left. */
  readonly buffered: number;
  readonly isOpen: boolean;
  close(): void;
}

export class WebSocketStream implements Stream {
  refusal: StreamRefusal | null = null;
  /** The ticket for the next plane, on a leg of one. */
  resumeTicket: string | null = null;
  isOpen = true;
  /** Bytes that may wait to be read, beside one message: nobody is known yet. More of them end the stream. */
  most = 131_072;
  private arrived: Uint8Array[] = [];
  private waits = 0;
  private waiting: ((data: Bytes | null) => void) | null = null;

  private constructor(private readonly socket: Socket, private readonly isLeg: boolean) {
    socket.onmessage = ({ data }) => this.heard(data);
    socket.onerror = () => {};
  }

  /** Open one at a URL of `ws:` or `wss:`. Throws `RelayUnavailable`. */
  static open(url: string, isLeg: boolean, signal?: AbortSignal): Promise<WebSocketStream> {
    return new Promise((done, failed) => {
      let socket: Socket;
      try {
        signal?.throwIfAborted();
        socket = openSocket(url, PROTOCOLS);
      } catch (error) {
        failed(error);
        return;
      }
      socket.binaryType = "arraybuffer";
      const over = (error: unknown) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        if (error === null) done(stream);
        else {
          socket.close();
          failed(error);
        }
      };
      const abort = () => over(signal?.reason);
      const timer = setTimeout(() => over(new RelayUnavailable(`no answer in ${OPEN_SECONDS} s`)), OPEN_SECONDS * 1000);
      signal?.addEventListener("abort", abort);
      const stream = new WebSocketStream(socket, isLeg);
      socket.onclose = () => over(new RelayUnavailable("the relay cannot be reached, or refuses this page"));
      socket.onopen = () => {
        socket.onclose = ({ code, reason }) => stream.ended(code, reason);
        over(null);
      };
    });
  }

  /** Whether the relay speaks as to pages: one that does not has passed over what stood in the query. */
  get isPage(): boolean {
    return this.socket.protocol === PROTOCOLS[0];
  }

  get buffered(): number {
    return this.socket.bufferedAmount;
  }

  /** In Node: where it comes from and leads to. */
  get ends(): NonNullable<Socket["ends"]> | null {
    return this.socket.ends ?? null;
  }

  read(): Promise<Bytes | null> {
    if (this.arrived.length) {
      const data = concat(...this.arrived);
      this.arrived = [];
      this.waits = 0;
      return Promise.resolve(data);
    }
    if (!this.isOpen) return Promise.resolve(null);
    return new Promise((done) => (this.waiting = done));
  }

  write(data: Uint8Array): void {
    if (this.isOpen && data.length) this.socket.send(data as Bytes);
  }

  close(): void {
    if (this.isOpen) this.socket.close(1000);
    this.ended(1000, "");
  }

  private heard(data: unknown): void {
    if (!this.isOpen) return;
    if (typeof data === "string") {
      this.text(data);
      return;
    }
    const bytes = new Uint8Array(data as ArrayBuffer);
    if (!bytes.length) return;
    if (this.waiting) {
      this.answer(bytes);
      return;
    }
    this.arrived.push(bytes);
    this.waits += bytes.length;
    if (this.waits - bytes.length > this.most) this.close();
  }

  private text(data: string): void {
    let said: unknown = null;
    try {
      if (this.isLeg && this.resumeTicket === null && data.length <= 4096) said = JSON.parse(data);
    } catch {
      // It is no JSON: what the check below says of it.
    }
    if (said === null || typeof said !== "object") {
      this.close();
      return;
    }
    const resume = (said as { resume?: unknown }).resume;
    this.resumeTicket = typeof resume === "string" && /^[0-9a-f]{32}$/.test(resume) ? resume : "";
  }

  private ended(code: number, reason: string): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    if (code >= 4400 && code < 4600) {
      const [word, seconds] = reason.split(" ");
      this.refusal = { code: codeOf(word), retryAfter: seconds && /^\d{1,9}$/.test(seconds) ? Number(seconds) : null };
    }
    if (this.waiting) this.answer(null);
  }

  private answer(data: Bytes | null): void {
    const waiting = this.waiting;
    this.waiting = null;
    waiting?.(data);
  }
}

/** The error of a stream that was refused, or has ended. */
export function streamError(stream: WebSocketStream): RelayUnavailable | PathFailed {
  const { refusal } = stream;
  if (!refusal) return new PathFailed("the stream has ended");
  return new RelayUnavailable(`the relay refuses: ${refusal.code}`, refusal.code, refusal.retryAfter);
}

/** A stream's bytes, taken in exact counts or as they come. At most `most` wait for the former. */
export class Exact {
  private held: Bytes = NOTHING;

  constructor(private readonly stream: Stream) {}

  /** The next `count` bytes; null where the stream ends before. */
  async take(count: number): Promise<Bytes | null> {
    while (this.held.length < count) {
      const data = await this.stream.read();
      if (data === null) return null;
      this.held = this.held.length ? concat(this.held, data) : data;
    }
    const taken = this.held.slice(0, count);
    this.held = this.held.slice(count);
    return taken;
  }

  /** What is held, and what comes next where that is nothing. */
  async more(): Promise<Bytes | null> {
    if (!this.held.length) return this.stream.read();
    const held = this.held;
    this.held = NOTHING;
    return held;
  }
}
