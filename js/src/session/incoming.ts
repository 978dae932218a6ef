/** The messages of the other side, from the path until the program takes them. Pure.
 *
 * They are numbered as they arrive, in order; what arrives twice is known by its number. */

import type { Bytes } from "../bytes.js";
import { ProtocolViolation } from "../errors.js";
import type { Value } from "../messagepack.js";
import { MAX_PAYLOAD, MESSAGE_WEIGHT } from "./frames.js";
import { Queue } from "./queue.js";

const MOST_IDLE = 1024;
const SMALL_PART = 1024;

export class Incoming {
  readonly inbox = new Queue<Bytes>();
  /** Messages that have arrived. */
  received = 0;
  /** Weight of those that were taken. */
  consumed = 0;
  /** The last message, once the other side has said that nothing follows it. */
  endedAt: number | null = null;
  private weight = 0;
  private idle = 0;
  private part: Bytes = new Uint8Array(0);
  private total = 0;
  /** Bytes that have arrived of the message that is not whole. */
  partial = 0;

  constructor(private readonly window: number) {}

  get arrived(): number {
    return this.weight + this.partial;
  }

  take(): Bytes | undefined {
    const payload = this.inbox.shift();
    if (payload !== undefined) this.consumed += payload.length + MESSAGE_WEIGHT;
    return payload;
  }

  /** Bytes have come: frames that bring nothing are counted anew. */
  heard(): void {
    this.idle = 0;
  }

  /** A frame brings nothing. */
  note(): void {
    if (++this.idle > MOST_IDLE) throw new ProtocolViolation("frames that bring nothing", "limit_exceeded");
  }

  /** Take whole messages from number `first` on; return whether one of them is new. */
  data(first: number, payloads: readonly Value[]): boolean {
    if (first < 1 || first > this.received + 1) {
      throw new ProtocolViolation(`message ${first} follows message ${this.received}`);
    }
    const fresh = payloads.slice(this.received + 1 - first);
    if (!payloads.every((payload) => payload instanceof Uint8Array)) throw new ProtocolViolation("a payload must be bytes");
    if (!fresh.length) {
      this.note();
      return false;
    }
    const weight = (fresh as Bytes[]).reduce((sum, payload) => sum + payload.length + MESSAGE_WEIGHT, 0);
    this.checkRoom(weight);
    this.drop(); // A message that had arrived in part may come whole after all.
    this.weight += weight;
    for (const payload of fresh as Bytes[]) this.inbox.push(payload);
    this.received += fresh.length;
    return true;
  }

  /** Take a part of message `number`; return whether that makes it whole. */
  takePart(number: number, offset: number, total: number, piece: Uint8Array): boolean {
    if (number < 1 || number > this.received + 1) {
      throw new ProtocolViolation(`a part of message ${number} follows message ${this.received}`);
    }
    if (number <= this.received) {
      this.note();
      return false;
    }
    const known = this.partial, end = offset + piece.length;
    if (total > MAX_PAYLOAD) throw new ProtocolViolation("a message above 1 MiB", "message_too_large");
    if (!piece.length || end > total) throw new ProtocolViolation("a part that is none");
    if (offset > known || (known && total !== this.total)) {
      throw new ProtocolViolation(`${known} bytes of a message are here, not ${offset}`);
    }
    const count = end - known;
    if (count < SMALL_PART && end < total) this.note();
    if (count <= 0) return false;
    this.checkRoom(end + MESSAGE_WEIGHT);
    // Grown with what arrives, never to what is only declared.
    if (end > this.part.length) {
      const grown = new Uint8Array(Math.min(Math.max(2 * this.part.length, end), total));
      grown.set(this.part.subarray(0, known));
      this.part = grown;
    }
    this.part.set(piece.subarray(piece.length - count), known);
    this.partial = end;
    this.total = total;
    if (end < total) return false;
    const message = this.part.length === total ? this.part : this.part.slice(0, total);
    this.drop();
    this.inbox.push(message);
    this.weight += total + MESSAGE_WEIGHT;
    this.received += 1;
    return true;
  }

  /** The other side has said that nothing follows message `count`. */
  end(count: number): void {
    if (count !== this.received || this.partial) {
      throw new ProtocolViolation(`closed after ${count}, but ${this.received} arrived`);
    }
    this.endedAt = count;
  }

  /** Forget the part of a message. */
  drop(): void {
    this.part = new Uint8Array(0);
    this.partial = 0;
  }

  private checkRoom(weight: number): void {
    if (this.endedAt !== null) throw new ProtocolViolation("a message after the close");
    // One message may reach past the window: the sender checks for room before it, not after.
    if (this.weight - this.consumed + weight > this.window + MAX_PAYLOAD + MESSAGE_WEIGHT) {
      throw new ProtocolViolation("more than the window allows", "limit_exceeded");
    }
  }
}
