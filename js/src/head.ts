/** The head of a path: what its dialer says first, or hears first (docs/protocol.md §10). */

import type { Bytes } from "./bytes.js";
import { PathFailed, ProtocolViolation } from "./errors.js";
import { Reader } from "./messagepack.js";
import { readHead, type Head } from "./messages.js";
import type { Path } from "./path.js";

const HEAD_SECONDS = 10;

/** What stands at the head of a path: one message, within a time. */
export class HeadReader {
  private readonly reader = new Reader();

  /** `most` bytes may stand behind it. */
  constructor(private readonly path: Path, private readonly most = Infinity) {}

  /** What has come behind it. */
  get rest(): Bytes {
    return this.reader.rest;
  }

  async read(): Promise<Head> {
    const timer = setTimeout(() => this.path.cut(), HEAD_SECONDS * 1000);
    try {
      for (;;) {
        const data = await this.path.receive();
        if (data === null) throw new PathFailed("the path has ended before its head");
        this.reader.feed(data);
        const value = this.reader.next();
        if (value === undefined) continue;
        if (this.rest.length > this.most) throw new ProtocolViolation("too much before the hello was answered");
        return readHead(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}
