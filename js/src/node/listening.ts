/** Where others dial this peer: sockets that become paths once their other end has proven its key. Strangers have
 * shares: what they hold is bounded, for all and for each address, and given back. */

import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { RoamRelayError } from "../errors.js";
import type { Leg } from "../path.js";
import { canonical, networkOf } from "./addresses.js";
import type { Identity } from "./identity.js";
import { secured } from "./tls.js";

/** Sockets whose other end has not said hello yet: in all, and from one network (/24, /48). */
const MOST = 256, OF_ONE = 32;
const HANDSHAKE_SECONDS = 10;

export class Listening {
  private readonly waiting = new Map<Socket, string>();
  private readonly sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server, private readonly identity: Identity, private came: (guid: string, leg: Leg) => Promise<void>,
  ) {
    server.on("connection", (socket) => void this.admit(socket));
    server.on("error", (error) => console.error(error)); // As where there are no descriptors left: it goes on.
  }

  /** Listen at a port, 0 for a free one; on both families where the host has both. */
  static async open(
    identity: Identity, port: number, host: string | undefined, came: (guid: string, leg: Leg) => Promise<void>,
  ): Promise<Listening> {
    const server = createServer({ noDelay: true });
    try {
      server.listen({ port, ...(host === undefined ? {} : { host }) });
      await once(server, "listening");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new RoamRelayError(`cannot listen at port ${port}: ${reason}. Port 0 takes any free one, and direct: false listens at none`);
    }
    return new Listening(server, identity, came);
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** Sockets whose other end has not said hello. */
  get strangers(): number {
    return this.waiting.size;
  }

  close(): void {
    this.server.close();
    for (const socket of this.waiting.keys()) socket.destroy();
    // What sessions have they close by themselves.
    for (const socket of this.sockets) socket.unref();
  }

  private async admit(socket: Socket): Promise<void> {
    socket.on("error", () => socket.destroy());
    const there = canonical(socket.remoteAddress ?? ""), here = canonical(socket.localAddress ?? "");
    const network = there === null ? "" : networkOf(there);
    const of = [...this.waiting.values()].filter((one) => one === network).length;
    if (there === null || here === null || this.waiting.size >= MOST || of >= OF_ONE) {
      socket.destroy();
      return;
    }
    const release = () => this.waiting.delete(socket);
    this.waiting.set(socket, network);
    this.sockets.add(socket);
    socket.on("close", () => {
      release();
      this.sockets.delete(socket);
    });
    try {
      const ends = { kind: "direct" as const, there, here };
      const side = { identity: this.identity, remote: null, isClient: false };
      const path = await secured(socket, side, ends, HANDSHAKE_SECONDS);
      await this.came(path.guid, { path, ticket: null, admit: release });
    } catch {
      socket.destroy(); // A stranger's fault: nobody here has to hear of it.
    } finally {
      release();
    }
  }
}
