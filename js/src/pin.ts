/** Which relay is expected: the one that the program names, or what its key has become (docs/protocol.md §7,
 * the succession). */

import { guidOf, keyOf, verify } from "./identity.js";

const KEY = 32, SIGNATURE = 64, LINK = KEY + 2 * SIGNATURE, MOST_LINKS = 8;

export class Pin {
  private left: readonly string[] = [];

  /** `guid` is the one that is expected now; null: whichever answers, and nothing is learned. */
  constructor(public guid: string | null) {}

  /** Follow what a relay says behind a challenge that the expected key has signed. What does not hold as a whole
   * is passed over: the relay is the one that was expected all the same. */
  async learn(links: readonly Uint8Array[]): Promise<void> {
    const first = this.guid;
    if (first === null || !links.length || links.length > MOST_LINKS) return;
    const guids = [first];
    for (const link of links) {
      const before = keyOf(guids.at(-1) as string), key = link.slice(0, KEY), guid = guidOf(key);
      const [old, next] = [link.slice(KEY, KEY + SIGNATURE), link.slice(KEY + SIGNATURE)];
      // A key that was left may be a thief's by now.
      const isFresh = link.length === LINK && !this.left.includes(guid) && !guids.includes(guid);
      const holds = isFresh && (await verify(before, old, "succession", before, key)) &&
        (await verify(key, next, "succeeds", before, key));
      if (!holds) return;
      guids.push(guid);
    }
    if (this.guid !== first) return; // Learned meanwhile.
    this.left = [...this.left, ...guids.slice(0, -1)];
    this.guid = guids.at(-1) as string;
  }
}
