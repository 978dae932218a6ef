// The adapter of this package for the conformance kit (docs/conformance.md): a line of JSON on standard
// input is a command, its answer a line on standard output.
//
//     peer conformance peer --command "node js/test/conformance.mjs"
//
// With `node` behind it, it is a peer of roam-relay/node: TLS, and direct paths in every mode.

import { createInterface } from "node:readline";

const isNode = process.argv[2] === "node";
const { Identity, Peer, RoamRelayError, SessionClosed, SessionLost } = await import(isNode ? "../dist/node.js" : "../dist/index.js");

const UNSUPPORTED = Symbol("unsupported");
const peers = new Map();
const sessions = new Map();
const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));

async function echo(session) {
  try {
    for await (const message of session) await session.send(message);
    await session.close();
  } catch (error) {
    if (!(error instanceof SessionClosed || error instanceof SessionLost)) throw error;
  }
}

async function serve(opening, service) {
  let peer;
  try {
    peer = await opening;
  } catch {
    return; // How it stands with its relay is what the kit looks at by itself.
  }
  for await (const session of peer.listen(service)) void echo(session);
}

const commands = {
  async open({ peer, relay, key, carrier, service, invitation, relay_guid: relayGuid }) {
    if (carrier !== "websocket") return UNSUPPORTED;
    const identity = await Identity.fromSeed(bytes(key));
    const ending = new AbortController();
    const opening = Peer.open({ relay, identity, invitation, relayGuid, wait: true, signal: ending.signal });
    peers.set(peer, { opening, ending });
    void serve(opening, service);
    return { guid: identity.guid };
  },
  async shut({ peer }) {
    const { opening, ending } = peers.get(peer);
    peers.delete(peer);
    ending.abort();
    await opening.then((opened) => opened.close({ timeout: 0.2 }), () => undefined);
  },
  async connect({ peer, session, guid, service, mode, metadata = "" }) {
    if (!isNode && mode !== "auto" && mode !== "central") return UNSUPPORTED;
    const opened = await peers.get(peer).opening;
    sessions.set(session, await opened.connect(guid, service, { mode, metadata: bytes(metadata) }));
  },
  async send({ session, message }) {
    await sessions.get(session).send(bytes(message));
  },
  async receive({ session }) {
    const message = await sessions.get(session).receive();
    return { message: message === null ? null : Buffer.from(message).toString("hex") };
  },
  async finish({ session }) {
    await sessions.get(session).finish();
  },
  async close({ session }) {
    await sessions.get(session).close();
  },
  async abort({ session }) {
    sessions.get(session).abort();
  },
};

async function answer({ id, do: what, ...asked }) {
  if (!Object.hasOwn(commands, what)) return { id, unsupported: true };
  try {
    const done = await commands[what](asked);
    return done === UNSUPPORTED ? { id, unsupported: true } : { id, done: done ?? {} };
  } catch (error) {
    if (!(error instanceof RoamRelayError)) throw error;
    return { id, failed: error.code ?? error.name };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  void answer(JSON.parse(line)).then((said) => process.stdout.write(`${JSON.stringify(said)}\n`));
}
for (const name of [...peers.keys()]) await commands.shut({ peer: name });
process.exit(0);
