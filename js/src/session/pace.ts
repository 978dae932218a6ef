/** What is on its way on one path, and what its acknowledgements say of the path. Pure.
 *
 * Only what the other side acknowledges counts as delivered: a socket, a kernel and a relay each take
 * megabytes for a receiver that gets none of them. What is on its way has a limit, which grows until
 * acknowledgements come later than for a frame that had nothing before it; where they come more than
 * half a second later, it shrinks to what the path delivers in that time. So a ping waits for about half
 * a second of other bytes. Positions are pairs: messages that are whole, and bytes of the next one. */

import { FRAME_BYTES } from "./frames.js";
import { Queue } from "./queue.js";

export interface Position {
  readonly whole: number;
  readonly part: number;
}

export function isAfter(one: Position, other: Position): boolean {
  return one.whole !== other.whole ? one.whole > other.whole : one.part > other.part;
}

interface Flight {
  readonly end: Position;
  /** Bytes written on the path, this frame included. */
  readonly written: number;
  readonly when: number;
  /** Bytes of them that were known to have arrived then. */
  readonly delivered: number;
  /** Whether nothing was on its way before it. */
  readonly alone: boolean;
}

const FIRST_FLIGHT = 16_384;
const LEAST_FLIGHT = 1024;
const LARGEST_FLIGHT = 1 << 26;
const QUEUE_SECONDS = 0.5;
const SMALLEST_FRAGMENT = 1024;
const FRAGMENT_SECONDS = 0.25;
const ENOUGH = 32_768;
/** Bytes a second. A large message may be on its way for as long as this link would need. */
const SLOWEST_LINK = 16_384;

export class Pace {
  private flights = new Queue<Flight>();
  private written = 0;
  private delivered = 0;
  private limit = FIRST_FLIGHT;
  /** Seconds to the acknowledgement of a frame that has nothing before it. */
  private idleDelay: number | null = null;
  /** Bytes a second that the path has delivered when it was asked to. */
  private rate: number | null = null;
  /** Bytes of a message that may stand in one frame. */
  fragment = SMALLEST_FRAGMENT;

  /** Begin on a new path; after paths that were too slow (`patience` above 1) with less. */
  begin(patience: number): void {
    this.flights.clear();
    this.written = this.delivered = 0;
    this.limit = Math.floor(FIRST_FLIGHT / patience);
    this.idleDelay = this.rate = null;
    this.fragment = SMALLEST_FRAGMENT;
  }

  /** Bytes that may be written now; less than one where none may. */
  get room(): number {
    return this.limit - (this.written - this.delivered);
  }

  get isIdle(): boolean {
    return this.flights.length === 0;
  }

  /** How long the oldest frame on its way may take; null where there is none. */
  get secondsNeeded(): number | null {
    const oldest = this.flights.at(0);
    if (oldest === undefined) return null;
    const rate = this.rate === null ? SLOWEST_LINK : Math.min(SLOWEST_LINK, this.rate / 2);
    return (oldest.written - this.delivered) / rate;
  }

  wrote(end: Position, size: number, now: number): void {
    const alone = this.isIdle;
    this.written += size;
    this.flights.push({ end, written: this.written, when: now, delivered: this.delivered, alone });
  }

  /** All up to this position has arrived. */
  arrived(position: Position, now: number): void {
    let newest: Flight | null = null;
    for (let one = this.flights.at(0); one && !isAfter(one.end, position); one = this.flights.at(0)) {
      newest = one;
      this.flights.shift();
      if (one.alone) this.idleDelay = now - one.when;
    }
    if (newest) this.learn(newest, now);
  }

  private learn(flight: Flight, now: number): void {
    const before = this.delivered;
    // Whether the limit held the sender back, and not a want of messages.
    const heldBack = this.written - before + this.fragment > this.limit;
    this.delivered = flight.written;
    const carried = flight.written - flight.delivered;
    const delay = now - flight.when;
    const rate = carried / Math.max(delay, 1e-6);
    if (this.rate === null || rate > this.rate || heldBack || carried >= ENOUGH) this.rate = rate;
    const size = Math.min((this.rate ?? rate) * FRAGMENT_SECONDS, this.delivered / 2);
    this.fragment = Math.min(Math.max(Math.floor(size), SMALLEST_FRAGMENT), FRAME_BYTES);
    const idle = this.idleDelay === null ? delay : Math.min(this.idleDelay, delay);
    this.idleDelay = idle;
    const late = delay - idle;
    if (late > QUEUE_SECONDS) {
      const least = heldBack ? LEAST_FLIGHT : this.limit / 2;
      const wanted = rate * (idle + QUEUE_SECONDS);
      this.limit = Math.floor(Math.max(Math.min(this.limit, wanted), least, LEAST_FLIGHT));
    } else if (heldBack && late <= QUEUE_SECONDS / 2) {
      this.limit = Math.min(this.limit + 2 * (flight.written - before), LARGEST_FLIGHT);
    }
  }
}
