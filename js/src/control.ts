/** One control connection, from the upgrade to its end (docs/protocol.md §5). When the next one comes is
 * decided in reconnect.ts; what its messages mean to sessions, elsewhere. */

import { random, type Bytes } from "./bytes.js";
import { errorFor, ProtocolViolation, RelayUnavailable, type RoamRelayError } from "./errors.js";
import { keyOf, verify, type Identity } from "./identity.js";
import type { Invitation } from "./invitation.js";
import { Float, pack, Reader, type Fields, type Value } from "./messagepack.js";
import { readControl, type Control, type Message } from "./messages.js";
import type { Pin } from "./pin.js";
import type { Ended, Stage } from "./reconnect.js";
import { WebSocketStream } from "./stream.js";
import { Deferred, now } from "./time.js";

/** What a connection speaks for. */
export interface Speaker {
  readonly identity: Identity;
  /** 16 random bytes, one for each program that runs. */
  readonly instance: Bytes;
  /** The relay that is wanted. */
  readonly pin: Pin;
  /** What admits this peer, where the relay asks for that. */
  readonly invitation: Invitation | null;
  readonly agent: string;
  /** The location record of now, as bytes. */
  record(): Bytes;
}

const HANDSHAKE_SECONDS = 10;
const ANSWER_SECONDS = 12;

export class ControlConnection {
  stage: Stage = "unproven";
  /** Settles, and never throws, when it has ended. */
  readonly ended: Promise<Ended>;
  /** The relay, once it has proven its key. */
  relayKey: Bytes = new Uint8Array(32);
  private features: readonly string[] = [];
  private readonly over = new Deferred<Ended>();
  private readonly registered = new Deferred<void>();
  private readonly requests = new Map<number, (answer: Message<"service_response"> | null) => void>();
  private readonly reader = new Reader();
  private readonly nonce = random(32);
  private readonly expected: string | null;
  private readonly began = now();
  private number = 0;
  private heard = now();
  private pinged: number | null = null;
  private heartbeat = 15;
  private since = 0;
  private restarting: Ended["restarting"] = null;
  private fault: { code: Ended["code"]; reason: string; retryAfter: number | null } | null = null;
  private readonly timer: ReturnType<typeof setInterval>;

  private constructor(
    private readonly stream: WebSocketStream, private readonly speaker: Speaker,
    private readonly told: (message: Control, from: ControlConnection) => void,
  ) {
    this.ended = this.over.promise;
    this.expected = speaker.pin.guid;
    this.registered.promise.catch(() => undefined);
    this.timer = setInterval(() => this.beat(), 1000);
    this.say({
      type: "hello", guid: speaker.identity.guid, instance: speaker.instance, nonce: this.nonce,
      agent: speaker.agent || undefined, features: ["offer", "succession"],
      relay: this.expected ?? undefined,
    });
    void this.run();
  }

  /** Attach to a relay; `told` hears what it says from then on. Resolves once it is registered or has
   * ended; throws nothing but what the signal says. */
  static async attach(
    url: string, speaker: Speaker, told: (message: Control, from: ControlConnection) => void, signal: AbortSignal,
  ): Promise<ControlConnection | Ended> {
    let stream: WebSocketStream;
    try {
      stream = await WebSocketStream.open(`${url}/v1/control`, false, signal);
    } catch (error) {
      signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      return { stage: "unproven", lasted: 0, code: null, reason, retryAfter: null, restarting: null };
    }
    const one = new ControlConnection(stream, speaker, told);
    const abort = () => one.close();
    signal.addEventListener("abort", abort);
    void one.ended.then(() => signal.removeEventListener("abort", abort));
    await Promise.race([one.registered.promise, one.ended]);
    signal.throwIfAborted();
    return one.stage === "registered" ? one : one.ended;
  }

  /** Whether the relay passes offers on, with requests and their answers. */
  get passesOffers(): boolean {
    return this.features.includes("offer");
  }

  get ends(): WebSocketStream["ends"] {
    return this.stream.ends;
  }

  say(message: Fields): void {
    this.stream.write(pack(message));
  }

  /** Ask for a session; null where the connection ends before the answer, or none comes. */
  request(fields: Fields, timeout: number): Promise<Message<"service_response"> | null> {
    const request = (this.number = (this.number + 1) % 2 ** 32);
    const told = Number.isInteger(timeout) ? timeout : new Float(timeout);
    const message = pack({ type: "service_request_to", request, timeout: told, ...fields });
    const answer = new Deferred<Message<"service_response"> | null>();
    // The relay answers within the timeout; this is for one that does not.
    const timer = setTimeout(() => this.requests.get(request)?.(null), (timeout + 5) * 1000);
    this.requests.set(request, (said) => {
      clearTimeout(timer);
      this.requests.delete(request);
      answer.resolve(said);
    });
    this.stream.write(message);
    return answer.promise;
  }

  /** Leave: the relay knows then that this peer is offline. */
  close(): void {
    this.stream.close();
  }

  /** See whether the relay still answers: nobody waits longer than `seconds` for it. */
  doubt(seconds: number): void {
    if (this.stage !== "registered" || this.pinged !== null) return;
    const asked = now();
    this.ping();
    setTimeout(() => {
      if (this.heard < asked) this.stream.close();
    }, seconds * 1000);
  }

  private ping(): void {
    this.pinged = now();
    this.say({ type: "ping", ping: 0 });
  }

  private beat(): void {
    const time = now();
    if (this.stage !== "registered") {
      if (time > this.began + HANDSHAKE_SECONDS) this.stream.close();
    } else if (time > this.heard + 2 * this.heartbeat || (this.pinged !== null && time > this.pinged + ANSWER_SECONDS)) {
      this.stream.close();
    } else if (time > this.heard + this.heartbeat && this.pinged === null) this.ping();
  }

  private async run(): Promise<void> {
    try {
      for (let data = await this.stream.read(); data !== null; data = await this.stream.read()) {
        this.heard = now();
        this.pinged = null;
        this.reader.feed(data);
        for (const value of this.reader.values()) await this.hear(value);
      }
    } catch (error) {
      this.fault ??= { code: null, reason: error instanceof Error ? error.message : String(error), retryAfter: null };
      if (!(error instanceof ProtocolViolation || error instanceof RelayUnavailable)) console.error(error);
    } finally {
      clearInterval(this.timer);
      this.stream.close();
      for (const answer of [...this.requests.values()]) answer(null);
      const refusal = this.fault ?? this.stream.refusal ?? { code: null, retryAfter: null };
      this.over.resolve({
        stage: this.stage, lasted: this.stage === "registered" ? now() - this.since : 0, code: refusal.code,
        reason: this.fault?.reason || refusal.code || "the connection has ended", retryAfter: refusal.retryAfter,
        restarting: this.restarting,
      });
    }
  }

  private async hear(value: Value): Promise<void> {
    const said = readControl(value);
    if (said === null) return;
    switch (said.type) {
      case "ping":
        this.say({ type: "pong", ping: said.ping });
        return;
      case "pong":
        return;
      case "restarting":
        this.restarting = { delay: said.delay, spread: said.spread };
        return;
      case "error":
        if (said.code === "stale_sequence" || said.code === "unknown_type" || said.code === "unknown_request") {
          this.told(said, this);
        }
        if (said.code !== "unknown_type" && said.code !== "unknown_request") {
          this.fault = { code: said.code, reason: said.reason, retryAfter: said.retry_after };
        }
        return;
      case "challenge":
        if (this.stage !== "unproven") throw new ProtocolViolation("a second challenge");
        await this.challenged(said);
        return;
      case "registered":
        if (this.stage === "unproven") throw new ProtocolViolation("registered before the challenge");
        this.fault = null;
        this.heartbeat = Math.max(said.heartbeat, 1);
        if (this.stage === "handshake") {
          this.stage = "registered";
          this.since = now();
          this.registered.resolve();
        }
        this.told(said, this);
        return;
      case "service_response":
        this.requests.get(said.request)?.(said);
        return;
      default:
        if (this.stage === "registered") this.told(said, this);
    }
  }

  private async challenged(said: Message<"challenge">): Promise<void> {
    const { identity, instance, invitation, pin } = this.speaker, relay = this.expected;
    const key = keyOf(said.guid);
    if (!(await verify(key, said.signature, "challenge", identity.publicKey, this.nonce, said.nonce))) {
      throw new RelayUnavailable("the relay has not proven its key", "bad_signature");
    }
    if (relay !== null && relay !== said.guid) {
      throw new RelayUnavailable(`the relay is ${said.guid}, and ${relay} was expected`, "bad_signature");
    }
    // Behind the signature of the key that is expected, and of no other.
    if (relay === pin.guid) await pin.learn(said.succession);
    this.stage = "handshake";
    this.relayKey = key;
    this.features = said.features;
    const location = this.speaker.record();
    const signature = await identity.sign("register", key, said.nonce, identity.publicKey, instance, location);
    const shown = said.invitation && invitation ? await invitation.present(key, said.nonce, identity.publicKey) : undefined;
    this.say({ type: "register", location, signature, invitation: shown });
  }
}

/** The error for how a connection has ended. */
export function endedError({ code, reason, retryAfter }: Ended): RoamRelayError {
  if (code === "superseded") return errorFor(code, reason, retryAfter);
  return new RelayUnavailable(`no relay: ${reason}`, code, retryAfter);
}
