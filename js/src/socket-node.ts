/** Node's WebSocket: that of `ws`, as Node 20 has none of its own. */

import { WebSocket } from "ws";
import type { Socket } from "./socket-browser.js";

export type { Socket };

export function openSocket(url: string, protocols: readonly string[]): Socket {
  const socket = new WebSocket(url, [...protocols], { perMessageDeflate: false, maxPayload: 1 << 23 });
  let ends: Socket["ends"] = null;
  socket.once("upgrade", ({ socket: { localAddress, remoteAddress, remotePort } }) => {
    if (localAddress && remoteAddress && remotePort) ends = { here: localAddress, host: remoteAddress, port: remotePort };
  });
  Object.defineProperty(socket, "ends", { get: () => ends });
  return socket as unknown as Socket;
}
