/** Peers in the browser, and in Node: docs/web.md. */

export * from "./errors.js";
export { Identity, isGuid } from "./identity.js";
export type { Mode, PeerState } from "./messages.js";
