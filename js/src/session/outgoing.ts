/** The messages of this side, from `send` until the other side has them: as frames and as numbers.
 * Pure. In the first revision of the frames a message arrives whole or not at all. */

import type { Bytes } from "../bytes.js";
import { ProtocolViolation } from "../errors.js";
import { pack } from "../messagepack.js";
import { DATA, FRAME_BYTES, FRAME_MESSAGES, MESSAGE_WEIGHT, PART } from "./frames.js";
import { isAfter, Pace, type Position } from "./pace.js";
import { Queue } from "./queue.js";

/** Frames that leave behind a hello, whose welcome is not there yet (R10.34). */
export interface Early {
  readonly frames: readonly Bytes[];
  readonly ends: readonly Position[];
  readonly when: number;
}

export const NO_EARLY: Early = { frames: [], ends: [], when: 0 };

export class Outgoing {
  /** Messages that were given to `send`, and their weight. */
  sent = 0;
  weight = 0;
  /** Those of them that the other side has received. */
  acknowledged = 0;
  readonly pace = new Pace();
  private readonly queue = new Queue<Bytes>();
  /** Messages of the queue that were written whole on this path, and bytes of the next. */
  private written = 0;
  private partWritten = 0;
  private partAcknowledged = 0;
  /** What has ever been written, on any path. */
  private furthest: Position = { whole: 0, part: 0 };
  private inParts = false;

  /** What the other side is not known to have, in order. */
  get messages(): Bytes[] {
    return this.queue.toArray();
  }

  /** Whether something is to be written on this path. */
  get hasUnsent(): boolean {
    return this.written < this.queue.length;
  }

  send(payload: Bytes): void {
    this.sent += 1;
    this.weight += payload.length + MESSAGE_WEIGHT;
    this.queue.push(payload);
  }

  /** Begin on a new path: what is not acknowledged is written again, from the first byte that is
   * missing there. */
  begin(inParts: boolean, patience: number): void {
    this.written = 0;
    this.partWritten = this.partAcknowledged;
    this.inParts = inParts;
    this.pace.begin(patience);
  }

  /** What leaves first on a new path to a side that takes parts, whose numbers are not known yet. `begin`
   * takes all of it back. */
  early(patience: number, now: number): Early {
    this.begin(true, patience);
    const frames: Bytes[] = [], ends: Position[] = [];
    while (this.hasUnsent && this.pace.room > 0) {
      frames.push(this.frame(now));
      ends.push({ whole: this.acknowledged + this.written, part: this.partWritten });
    }
    return { frames, ends, when: now };
  }

  /** This stands at the head of the path that has begun, and was read there. */
  goOnBehind({ frames, ends, when }: Early): void {
    ends.forEach((end, at) => {
      if (!isAfter(end, { whole: this.acknowledged, part: this.partAcknowledged })) return;
      const whole = end.whole - this.acknowledged;
      if (whole > this.written) {
        this.written = whole;
        this.partWritten = 0;
      }
      this.partWritten = Math.max(this.partWritten, end.part);
      this.pace.wrote(end, (frames[at] as Bytes).length, when);
    });
  }

  /** How many of `limit` bytes should be written at once; less than one where it is too early. */
  room(limit: number): number {
    return this.inParts ? Math.min(limit, this.pace.room) : limit;
  }

  /** The next frame; call it only where something is unsent. */
  frame(now: number): Bytes {
    const first = this.acknowledged + this.written + 1;
    const size = this.inParts ? this.pace.fragment : FRAME_BYTES;
    const next = this.queue.at(this.written) as Bytes;
    let frame: Bytes, end: Position;
    if (this.partWritten || (this.inParts && next.length > size)) {
      const piece = next.subarray(this.partWritten, this.partWritten + size);
      frame = pack([PART, first, this.partWritten, next.length, piece]);
      this.partWritten += piece.length;
      if (this.partWritten === next.length) {
        this.written += 1;
        this.partWritten = 0;
      }
      end = { whole: this.acknowledged + this.written, part: this.partWritten };
    } else {
      const batch: Bytes[] = [];
      let sum = 0;
      for (let one: Bytes | undefined = next; one && sum < size && batch.length < FRAME_MESSAGES;) {
        if (batch.length && sum + one.length > size) break;
        sum += one.length;
        batch.push(one);
        one = this.queue.at(this.written + batch.length);
      }
      this.written += batch.length;
      frame = pack([DATA, first, batch]);
      end = { whole: first + batch.length - 1, part: 0 };
    }
    if (isAfter(end, this.furthest)) this.furthest = end;
    this.pace.wrote(end, frame.length, now);
    return frame;
  }

  /** Refuse numbers that cannot be true. */
  check(received: number, consumed: number, partial: number): void {
    if (consumed > this.weight) throw new ProtocolViolation(`${consumed} taken, but ${this.weight} were sent`);
    if (isAfter({ whole: received, part: partial }, this.furthest)) {
      throw new ProtocolViolation(`message ${received} was acknowledged, but only ${this.furthest.whole} went out`);
    }
    const payload = this.queue.at(received - this.acknowledged);
    if (partial && received >= this.acknowledged && partial >= (payload?.length ?? 0)) {
      throw new ProtocolViolation(`message ${received + 1} is whole, and not received`);
    }
  }

  /** Forget what has arrived; whether that is more than was known before. */
  acknowledge(received: number, partial: number, now: number): boolean {
    const newly = received - this.acknowledged;
    if (newly < 0 || (!newly && partial <= this.partAcknowledged)) return false;
    for (let one = 0; one < newly; one++) this.queue.shift();
    if (newly > this.written) this.partWritten = 0;
    this.written = Math.max(0, this.written - newly);
    if (!this.written) this.partWritten = Math.max(this.partWritten, partial);
    this.acknowledged = received;
    this.partAcknowledged = partial;
    this.pace.arrived({ whole: received, part: partial }, now);
    return true;
  }
}
