/** What a peer in Node has beside that of a page: TLS on planes, and direct paths, dialed and listened for. */

import { guidOf } from "../identity.js";
import type { LockSide, LockWord } from "../lock.js";
import type { Fields } from "../messagepack.js";
import type { SignedEntry } from "../messages.js";
import type { DirectHost, Leg, Native, Path, Remote, Seen, Word } from "../path.js";
import type { Stream } from "../stream.js";
import { canonical, type Endpoint, type Interface } from "./addresses.js";
import { Dialing } from "./dialing.js";
import type { Dial } from "./door.js";
import { signEntry, type Own } from "./entries.js";
import { Host, ownEndpoints, systemAddresses } from "./host.js";
import type { Identity } from "./identity.js";
import { Listening } from "./listening.js";
import { securedLeg } from "./tls.js";

export interface DirectOptions {
  /** The port at which others dial; 0, by default, is any free one. */
  readonly port?: number;
  /** The address to listen at; all of this host's where none is given. */
  readonly host?: string;
  /** Addresses, or `HOST:PORT`, to tell beside those of this host, as where a router passes a port on. Up to 8. */
  readonly advertise?: readonly string[];
  /** What is dialed by another's word where its key was not met (docs/addresses.md). */
  readonly dial?: Dial;
  /** This host's addresses, asked every second; what the system says where it is not given. Each may have the length
   * of its network's prefix behind a slash. */
  readonly addresses?: () => readonly string[];
}

const LOCK_SECONDS = 10;
const MOST_ADVERTISED = 8;

export class Direct implements Native {
  readonly isDirect: boolean;
  private readonly host: Host | null;
  private readonly dialing: Dialing;
  private seen_: Seen = { here: null, relay: null, observed: "" };
  private own: readonly Own[] = [];
  private signed = new Map<string, Fields[]>();
  private seq = 0;
  private peer: DirectHost | null = null;

  private constructor(
    private readonly identity: Identity, readonly locks: readonly LockWord[], private readonly listening: Listening | null,
    private readonly options: DirectOptions, private readonly advertised: readonly Endpoint[],
  ) {
    this.isDirect = listening !== null;
    this.host = listening && new Host(readerOf(options.addresses), (gone) => this.moved(gone));
    this.dialing = new Dialing(identity, options.dial ?? "careful", () => ({
      interfaces: this.host?.interfaces ?? [], relay: this.seen_.relay, observed: this.seen_.observed,
      listening: listening?.port ?? 0,
    }));
  }

  /** Throws `TypeError` and `RangeError` for what cannot be. */
  static async open(identity: Identity, locks: readonly LockWord[], options: DirectOptions | false): Promise<Direct> {
    if (options === false) return new Direct(identity, locks, null, {}, []);
    const { port = 0, host, advertise = [], dial = "careful", addresses } = options;
    if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new RangeError(`port is 0 to 65,535, not ${String(port)}`);
    if (host !== undefined && (typeof host !== "string" || canonical(host) === null)) throw new TypeError(`host is an IP address, not ${String(host)}`);
    if (!["careful", "proven", "open"].includes(dial)) throw new TypeError(`dial is careful, proven or open, not ${String(dial)}`);
    if (addresses !== undefined && typeof addresses !== "function") throw new TypeError("addresses is a function");
    if (!Array.isArray(advertise) || advertise.length > MOST_ADVERTISED) throw new RangeError(`advertise has ${MOST_ADVERTISED} places at most`);
    const told = (advertise as readonly string[]).map(endpointOf);
    readerOf(addresses)(); // What it says wrongly is said here.
    let direct: Direct | null = null;
    const listening = await Listening.open(identity, port, host, async (guid, leg) => direct?.peer?.came(guid, leg));
    direct = new Direct(identity, locks, listening, options, told.map((one) => ({ host: one.host, port: one.port || listening.port })));
    return direct;
  }

  /** Where this peer says that it can be dialed. */
  get endpoints(): readonly Own[] {
    return this.own;
  }

  start(host: DirectHost): void {
    this.peer = host;
  }

  async secure(stream: Stream, { remote, isCaller }: LockSide): Promise<Path> {
    return securedLeg(stream, { identity: this.identity, remote: guidOf(remote), isClient: isCaller }, LOCK_SECONDS);
  }

  entries(service: string, seq = 0): Fields[] {
    this.seq = Math.max(this.seq, seq);
    let signed = this.signed.get(service);
    if (!signed) {
      signed = this.own.map((one) => signEntry(this.identity, this.seq, service, one));
      if (this.signed.size >= 256) this.signed.clear();
      this.signed.set(service, signed);
    }
    return signed;
  }

  seen({ here, relay, observed }: Seen): void {
    const at = relay && canonical(relay.host);
    this.seen_ = {
      here: here && canonical(here), relay: relay && at ? { host: at, port: relay.port } : null,
      observed: canonical(observed) ?? "",
    };
    if (this.refresh()) this.peer?.changed(new Set());
  }

  told(of: Remote, entries: readonly SignedEntry[], word: Word): void {
    this.dialing.hear(of, entries, word);
  }

  dial(of: Remote): Promise<Leg> {
    return this.dialing.dial(of);
  }

  reached(of: Remote, host: string): void {
    this.dialing.reached(of, host);
  }

  forget(key: string): void {
    this.dialing.forget(key);
  }

  close(): void {
    this.host?.close();
    this.listening?.close();
    this.dialing.close();
  }

  private moved(gone: ReadonlySet<string>): void {
    this.dialing.moved();
    const isOther = this.refresh();
    if (isOther || gone.size) this.peer?.changed(gone);
  }

  /** Whether this peer is elsewhere than it said. */
  private refresh(): boolean {
    if (!this.host || !this.listening) return false;
    const { here, observed } = this.seen_;
    const { host } = this.options;
    // Bound to one address, it is at no other.
    const bound = host === undefined ? null : canonical(host);
    const isAll = bound === null || bound === "0.0.0.0" || bound === "::";
    const interfaces = isAll ? this.host.interfaces : this.host.interfaces.filter((one) => one.host === bound);
    const leads = isAll || here === bound ? here : null;
    const own = ownEndpoints(interfaces, this.listening.port, leads, isAll ? observed : "", this.advertised, this.options.addresses !== undefined);
    const isSame = JSON.stringify(own) === JSON.stringify(this.own);
    if (isSame) return false;
    this.own = own;
    this.signed.clear();
    this.seq = Math.max(this.seq, Date.now()); // What is signed of it is newer than what was.
    return true;
  }
}

function readerOf(addresses: DirectOptions["addresses"]): () => readonly Interface[] {
  if (!addresses) return systemAddresses;
  return () => addresses().map((text) => {
    const [address = "", prefix] = String(text).split("/");
    const host = canonical(address);
    if (host === null) throw new TypeError(`addresses gives ${JSON.stringify(text)}, which is no IP address`);
    return { host, prefix: prefix === undefined ? (host.includes(":") ? 128 : 32) : Number(prefix) };
  });
}

/** `HOST`, `HOST:PORT` or `[HOST]:PORT`; port 0 where none is said. */
function endpointOf(text: string): Endpoint {
  const [, six, sixPort, four, fourPort] = /^\[([^\]]+)\](?::(\d{1,5}))?$|^([^:]+)(?::(\d{1,5}))?$/.exec(String(text)) ?? [];
  const host = canonical(six ?? four ?? String(text));
  const port = Number(sixPort ?? fourPort ?? 0);
  if (host === null || port > 65_535) throw new TypeError(`advertise has addresses, or HOST:PORT, and not ${JSON.stringify(text)}`);
  return { host, port };
}
