/** What an address is: its form, its range, and the network that it is of (docs/addresses.md). Pure. */

import { BlockList, isIPv4, isIPv6 } from "node:net";

/** An address of this host, with the length of its network's prefix. */
export interface Interface {
  readonly host: string;
  readonly prefix: number;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

function ranges(...texts: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of texts) {
    const [address = "", length] = text.split("/");
    list.addSubnet(address, Number(length), isIPv4(address) ? "ipv4" : "ipv6");
  }
  return list;
}

function isIn(list: BlockList, host: string): boolean {
  return list.check(host, isIPv4(host) ? "ipv4" : "ipv6");
}

const NOBODY = ranges("0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8");
const LOOPBACK = ranges("127.0.0.0/8", "::1/128");
const LINK_LOCAL = ranges("169.254.0.0/16", "fe80::/10");
/** Private ranges (RFC 1918, 6598, 4193, 3879). */
const BLOCKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"].map((one) => ranges(one));
/** For other uses than hosts that anybody reaches (RFC 6890). */
const SPECIAL = ranges("192.0.0.0/24", "198.18.0.0/15", "100::/64", "2001:2::/48");
/** IPv6 that holds an IPv4 address somewhere, or in a way that only the network knows: 6to4, Teredo, NAT64 of a
 * network's own. */
const WRAPPED = ranges("2002::/16", "2001::/32", "64:ff9b:1::/48");
/** The same, in the last 32 bits (RFC 4291, 2765, 6052). */
const LAST_32 = ranges("::/96", "::ffff:0:0:0/96", "64:ff9b::/96");
const SERVICES = new Set([
  1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
  1433, 1521, 1883, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 5985, 5986, 6379, 6443, 8500, 8883, 9042,
  9092, 9200, 9300, 10250, 11211, 15672, 27017,
]);

/** An address in its canonical form, an IPv4 one that is mapped into IPv6 as IPv4; null where it is none. */
export function canonical(text: string): string | null {
  const host = text.split("%")[0] as string;
  if (isIPv4(host)) return host;
  if (!isIPv6(host)) return null;
  const short = new URL(`http://[${host}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short);
  return mapped ? fourOf(mapped[1] as string, mapped[2] as string) : short;
}

function fourOf(high: string, low: string): string {
  const [one, other] = [parseInt(high, 16), parseInt(low, 16)];
  return [one >> 8, one & 255, other >> 8, other & 255].join(".");
}

/** The address that a packet ends at: IPv4 where IPv6 holds one in its last 32 bits; null where only the network
 * knows it. */
export function unwrapped(host: string): string | null {
  if (isIPv4(host) || isIn(LOOPBACK, host) || isIn(NOBODY, host)) return host;
  const groups = groupsOf(host);
  if (isIn(WRAPPED, host) || (((groups[4] as number) & 0xfdff) === 0 && groups[5] === 0x5efe)) return null;
  return isIn(LAST_32, host) ? fourOf((groups[6] as number).toString(16), (groups[7] as number).toString(16)) : host;
}

function groupsOf(host: string): number[] {
  const [head = "", tail] = host.split("::");
  const numbers = (text: string) => (text ? text.split(":").map((one) => parseInt(one, 16)) : []);
  const [left, right] = [numbers(head), numbers(tail ?? "")];
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
}

/** Whether nobody is ever there: no address of one host. */
export function isNobody(host: string): boolean {
  return isIn(NOBODY, host);
}

export function isLoopback(host: string): boolean {
  return isIn(LOOPBACK, host);
}

export function isLinkLocal(host: string): boolean {
  return isIn(LINK_LOCAL, host);
}

/** Whether it means the same wherever it is dialed from. */
export function isPublic(host: string): boolean {
  return ![NOBODY, LOOPBACK, LINK_LOCAL, SPECIAL, ...BLOCKS].some((list) => isIn(list, host));
}

/** Whether two are of one private range: who is met in one sees the whole of it. */
export function shareBlock(one: string, other: string): boolean {
  return BLOCKS.some((list) => isIn(list, one) && isIn(list, other));
}

/** Whether an address is in the network of one of this host's. */
export function isNear(host: string, { host: own, prefix }: Interface): boolean {
  if (isIPv4(host) !== isIPv4(own)) return false;
  const list = new BlockList();
  list.addSubnet(own, prefix, isIPv4(own) ? "ipv4" : "ipv6");
  return isIn(list, host);
}

/** Whether a port is some well-known service's. */
export function isWellKnown(port: number): boolean {
  return port < 1024 || SERVICES.has(port);
}

/** The network whose share an address has: /24 of IPv4, /48 of IPv6. */
export function networkOf(host: string): string {
  return isIPv4(host) ? host.split(".").slice(0, 3).join(".") : groupsOf(host).slice(0, 3).map((one) => one.toString(16)).join(":");
}

export function written({ host, port }: Endpoint): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
