/** What a program catches. Every code of docs/protocol.md §13 is named once, here. */

export const CODES = [
  "bad_message", "message_too_large", "unexpected_message", "version_unsupported", "unknown_type",
  "bad_guid", "bad_signature", "stale_sequence", "not_admitted", "superseded", "handshake_timeout",
  "heartbeat_timeout", "slow_consumer", "restarting", "internal", "upgrade_required",
  "limit_exceeded", "unknown_peer", "unknown_service", "unknown_request", "peer_offline",
  "no_endpoint", "refused", "request_timeout", "mailbox_full", "letter_refused",
  "cluster_unavailable", "lock_unsupported", "ticket_unknown", "ticket_used", "ticket_expired",
  "ticket_foreign", "session_unknown", "path_superseded",
] as const;
export type Code = (typeof CODES)[number];

/** The code that a word is; one that is not known counts as `internal`. */
export function codeOf(word: unknown): Code {
  return (CODES as readonly unknown[]).includes(word) ? (word as Code) : "internal";
}

/** The root of everything that this package throws, but for what an `AbortSignal` gives as its
 * reason, and `TypeError` and `RangeError` for wrong arguments. Names are written out: a page's copy is
 * minified, and its classes have others. */
export class RoamRelayError extends Error {
  override readonly name: string = "RoamRelayError";
  /** The word on the wire, where the error has one. */
  readonly code: Code | null;
  /** Seconds after which to ask again; null where nobody has said. */
  readonly retryAfter: number | null;

  constructor(reason: string, code: Code | null = null, retryAfter: number | null = null) {
    super(reason);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** The other side broke the protocol. */
export class ProtocolViolation extends RoamRelayError {
  override readonly name: string = "ProtocolViolation";
  constructor(reason: string, code: Code = "bad_message") {
    super(reason, code);
  }
}
/** A text that is no GUID, or a key that cannot be used. */
export class IdentityError extends RoamRelayError {
  override readonly name: string = "IdentityError";
}
/** The relay cannot be reached, or refuses this peer. */
export class RelayUnavailable extends RoamRelayError {
  override readonly name: string = "RelayUnavailable";
}
/** Another program, or tab, with the same key has registered later. This one does not come back. */
export class Superseded extends RelayUnavailable {
  override readonly name: string = "Superseded";
}
/** Nobody with this GUID has registered. */
export class UnknownPeer extends RoamRelayError {
  override readonly name: string = "UnknownPeer";
}
/** The peer offers no such service, or not to this one. */
export class UnknownService extends RoamRelayError {
  override readonly name: string = "UnknownService";
}
/** The other side is not here now. */
export class PeerOffline extends RoamRelayError {
  override readonly name: string = "PeerOffline";
  /** Seconds since it was last heard; null where the relay does not know. */
  readonly lastSeen: number | null;
  constructor(reason: string, retryAfter: number | null, lastSeen: number | null) {
    super(reason, "peer_offline", retryAfter);
    this.lastSeen = lastSeen;
  }
}
/** The other side, or its program, said no. */
export class Refused extends RoamRelayError {
  override readonly name: string = "Refused";
}
/** A rate or a count. */
export class LimitExceeded extends RoamRelayError {
  override readonly name: string = "LimitExceeded";
}
/** The other side did not answer in time. */
export class RequestTimeout extends RoamRelayError {
  override readonly name: string = "RequestTimeout";
}
/** The other side cannot lock a path as this one does: it takes only TLS, or is too old. */
export class LockUnsupported extends RoamRelayError {
  override readonly name: string = "LockUnsupported";
}
/** There is no path, or it has failed. */
export class PathFailed extends RoamRelayError {
  override readonly name: string = "PathFailed";
}
/** The session has ended without a clean close. */
export class SessionLost extends RoamRelayError {
  override readonly name: string = "SessionLost";
  /** Messages sent here that the other side is not known to have. It may have some of them. */
  readonly messages: readonly Uint8Array[];
  constructor(reason: string, messages: readonly Uint8Array[], code: Code | null = null) {
    super(reason, code);
    this.messages = messages;
  }
  get unacknowledged(): number {
    return this.messages.length;
  }
}
/** Something was asked of a session that was closed, or finished, here. */
export class SessionClosed extends RoamRelayError {
  override readonly name: string = "SessionClosed";
}
/** The peer was closed. */
export class PeerClosed extends RoamRelayError {
  override readonly name: string = "PeerClosed";
}

/** The error for a code that a request was answered with. */
export function errorFor(
  code: Code, reason: string, retryAfter: number | null = null, lastSeen: number | null = null,
): RoamRelayError {
  const words = reason ? `${code}: ${reason}` : code;
  switch (code) {
    case "unknown_peer": return new UnknownPeer(words, code, retryAfter);
    case "unknown_service": return new UnknownService(words, code, retryAfter);
    case "peer_offline": return new PeerOffline(words, retryAfter, lastSeen);
    case "refused": case "no_endpoint": return new Refused(words, code, retryAfter);
    case "limit_exceeded": return new LimitExceeded(words, code, retryAfter);
    case "request_timeout": return new RequestTimeout(words, code, retryAfter);
    case "lock_unsupported": return new LockUnsupported(words, code, retryAfter);
    case "superseded": return new Superseded(words, code, retryAfter);
    case "not_admitted": case "restarting": case "cluster_unavailable":
      return new RelayUnavailable(words, code, retryAfter);
    default: return new RoamRelayError(words, code, retryAfter);
  }
}
