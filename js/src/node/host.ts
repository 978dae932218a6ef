/** This host's addresses, and what of them is told. Polled: Node tells of no change. */

import { networkInterfaces } from "node:os";
import { canonical, isLinkLocal, isLoopback, type Endpoint, type Interface } from "./addresses.js";
import type { Own } from "./entries.js";

const POLL_MILLISECONDS = 1000;
const MOST_OWN = 12;
/** Interfaces that lead only into the host. */
const INNER = /^(docker|br-|virbr|veth|vmnet|vboxnet|lxc|lxd|cni|flannel|cali|podman)/;

/** What the system says. */
export function systemAddresses(): Interface[] {
  return Object.entries(networkInterfaces()).flatMap(([name, all]) => INNER.test(name) ? [] : (all ?? []).flatMap((one) => {
    const host = canonical(one.address);
    return host === null ? [] : [{ host, prefix: Number(one.cidr?.split("/")[1] ?? (one.family === "IPv4" ? 32 : 128)) }];
  }));
}

/** Calls `changed` with the addresses that are gone, when there are others than before. */
export class Host {
  interfaces: readonly Interface[];
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(private readonly read: () => readonly Interface[], private readonly changed: (gone: ReadonlySet<string>) => void) {
    this.interfaces = read();
    this.timer = setInterval(() => this.look(), POLL_MILLISECONDS);
    this.timer.unref();
  }

  look(): void {
    const before = this.interfaces;
    try {
      this.interfaces = this.read();
    } catch (error) {
      console.error(error); // The program's own fault: it should hear of it, and what was known holds.
      return;
    }
    const [old, own] = [before, this.interfaces].map((all) => new Set(all.map(({ host }) => host))) as [Set<string>, Set<string>];
    const gone = new Set([...old].filter((host) => !own.has(host)));
    if (gone.size || own.size !== old.size) this.changed(gone);
  }

  close(): void {
    clearInterval(this.timer);
  }
}

/** What a peer tells of where it is: what its program says, the address that leads to the relay, the host's others,
 * and where the relay sees it. What leads nowhere from elsewhere is left out, unless the program has given the addresses. */
export function ownEndpoints(
  interfaces: readonly Interface[], port: number, here: string | null, observed: string, advertised: readonly Endpoint[],
  isGiven = false,
): Own[] {
  const own = new Map<string, Own>();
  const add = (one: Own) => {
    const key = `${one.host} ${one.port}`;
    if (!own.has(key) && own.size < MOST_OWN) own.set(key, one);
  };
  for (const { host, port } of advertised) add({ host, port, phase: "preferred", provenance: "configured" });
  const isThere = (host: string) => interfaces.some((one) => one.host === host);
  if (here !== null && isThere(here)) add({ host: here, port, phase: "preferred", provenance: "interface" });
  for (const { host } of interfaces) {
    if (isGiven || !(isLoopback(host) || isLinkLocal(host))) add({ host, port, phase: "new", provenance: "interface" });
  }
  if (observed !== "" && !isLoopback(observed) && !isThere(observed)) add({ host: observed, port, phase: "preferred", provenance: "observed" });
  return [...own.values()];
}
