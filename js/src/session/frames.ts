/** The frames of a session and how large they may be (docs/protocol.md §11). Pure. */

import { ProtocolViolation } from "../errors.js";
import { Reader, type Limits, type Value } from "../messagepack.js";

export const MAX_PAYLOAD = 1 << 20;
/** What each message weighs beside its length. */
export const MESSAGE_WEIGHT = 32;
/** Payload that is put into one frame. */
export const FRAME_BYTES = 65_536;
export const FRAME_MESSAGES = 1024;

export const DATA = 0, ACK = 1, CLOSE = 2, CLOSED = 3, PING = 4, PONG = 5, ABORT = 6, LOCATION = 7,
  PART = 8, FINISH = 9, SWITCH = 10;

const FIRST: Limits = { bytes: MAX_PAYLOAD + 65_536, bin: MAX_PAYLOAD, array: FRAME_MESSAGES };
const SECOND: Limits = { bytes: FRAME_BYTES + 8192, bin: FRAME_BYTES, array: FRAME_MESSAGES };

/** Yields each frame that is whole, as an array whose numbers are safe whole ones. */
export class FrameReader {
  private readonly reader: Reader;

  constructor(revised: boolean) {
    this.reader = new Reader(revised ? SECOND : FIRST);
  }

  *read(data: Uint8Array): Generator<readonly Value[]> {
    this.reader.feed(data);
    for (const value of this.reader.values()) {
      if (!Array.isArray(value)) throw new ProtocolViolation("not a session frame");
      yield value as readonly Value[];
    }
  }
}

/** Whether all of some values are whole numbers of 0 or more. */
export function areCounts(...values: readonly (Value | undefined)[]): boolean {
  return values.every((value) => typeof value === "number" && value >= 0);
}
