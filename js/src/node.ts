/** Peers in Node: all of `roam-relay`, with TLS on planes, direct paths in every mode, and keys in files. */

import { LOCKS, type LockWord } from "./lock.js";
import { Direct, type DirectOptions } from "./node/direct.js";
import { Identity } from "./node/identity.js";
import { doorOf, Peer as PagePeer, type PeerOptions } from "./peer.js";

export * from "./index.js";
export type { DirectOptions } from "./node/direct.js";
export type { Dial } from "./node/door.js";
export { Identity, loadIdentity } from "./node/identity.js";

export interface NodePeerOptions extends PeerOptions {
  /** This peer's key, of this module: that of a page can do no TLS. A new one where none is given. */
  readonly identity?: Identity;
  /** How direct paths are dialed and listened for; `false`: not at all, and this peer's addresses are told to
   * nobody. */
  readonly direct?: DirectOptions | false;
  /** What paths by the relay may be locked by; TLS where both sides have it. Both by default. */
  readonly locks?: readonly LockWord[];
}

/** Where this peer says that it can be dialed. */
export interface OwnEndpoint {
  readonly host: string;
  readonly port: number;
  readonly phase: "preferred" | "new" | "leaving";
  /** How this peer knows it. */
  readonly provenance: "interface" | "observed" | "configured";
}

/** As that of a page, and with direct paths. */
export class Peer extends PagePeer {
  private direct: Direct | null = null;

  /** Where this peer says that it can be dialed; none where it takes no direct paths. */
  get endpoints(): readonly OwnEndpoint[] {
    return this.direct?.endpoints ?? [];
  }

  static override async open(options: NodePeerOptions): Promise<Peer> {
    const { locks = ["tls", ...LOCKS], direct = {} } = options;
    const identity = options.identity ?? (await Identity.generate());
    const door = await doorOf(options);
    if (!(identity instanceof Identity)) throw new TypeError("identity is one of roam-relay/node: that of a page can do no TLS");
    if (!Array.isArray(locks) || !locks.length || locks.some((one) => one !== "tls" && one !== "noise")) {
      throw new TypeError(`locks has tls, noise, or both, and not ${JSON.stringify(locks)}`);
    }
    const native = await Direct.open(identity, locks, direct);
    try {
      const peer = new Peer(identity, door, options, native);
      peer.direct = native;
      return await peer.attached(options);
    } catch (error) {
      native.close();
      throw error;
    }
  }
}
