/** Peers in the browser, and in Node: docs/web.md. */

export * from "./errors.js";
export { Identity, isGuid } from "./identity.js";
export { Listener, type ListenOptions, type Select, type SessionRequest } from "./listener.js";
export type { Mode, PeerState } from "./messages.js";
export { Peer, type ConnectOptions, type Located, type PeerOptions } from "./peer.js";
export type { Presence } from "./presence.js";
export type { Status } from "./registration.js";
export type { TraceEvent } from "./route.js";
export { Session, type Explanation, type PathState, type Waiting } from "./session.js";
export type { SessionSettings } from "./session/liveness.js";
