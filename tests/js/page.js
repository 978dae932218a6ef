// What the tests drive in a page: a peer, one session, and numbered messages each way.

import * as roam from "/roam-relay.min.js";

const text = (message) => new TextDecoder().decode(message);

class Driven {
  peer = null; session = null; fault = "";
  allowed = 0; sent = 0; got = 0; wrong = ""; isOver = false; statuses = [];

  async open(relay, options = {}) {
    const { key, ...more } = options;
    const identity = key === undefined ? await roam.Identity.generate() : await roam.Identity.load(key);
    this.storageFailure = identity.storageFailure;
    this.peer = await roam.Peer.open({ relay, identity, ...more });
    (async () => { for await (const status of this.peer.statuses()) this.statuses.push(status.state); })();
    return this.peer.guid;
  }
  listen(service, take = (session) => { this.session = session; }) {
    (async () => { for await (const session of this.peer.listen(service)) take(session); })();
    return true;
  }
  async connect(guid, service, options = {}) {
    this.session = await this.peer.connect(guid, service, { wait: true, ...options });
    return true;
  }
  // Say numbers from 1 on, as far as is allowed, and expect the same from the other side.
  exchange(size = 0) {
    const filling = "x".repeat(size);
    (async () => {
      for (;;) {
        while (this.sent >= this.allowed) await new Promise((done) => { this.more = done; });
        await this.session.send(`${++this.sent} ${filling}`);
      }
    })().catch((error) => { this.fault = `${error}`; });
    (async () => {
      for await (const message of this.session) {
        const said = text(message);
        if (said !== `${this.got + 1} ${filling}`) this.wrong ||= `${said.slice(0, 40)} behind ${this.got}`;
        this.got += 1;
      }
      this.isOver = true;
    })().catch((error) => { this.faultAt = Date.now(); this.fault = `${error.name} ${error.code}`; });
    return true;
  }
  again() {
    this.session = null;
    this.allowed = this.sent = this.got = 0;
    return true;
  }
  // Whether a path was lost since a time, in milliseconds since 1970, and there is one again.
  hasLost(since) {
    const { trace } = this.session.explain();
    return trace.some(({ at, what }) => at >= since && what.startsWith("path lost")) && this.session.path.path !== null;
  }
  allow(count) { this.allowed = count; this.more?.(); return true; }
  async failure(what) { try { await what(); return ""; } catch (error) { return `${error.name} ${error.code}`; } }
}

window.roam = roam;
window.text = text;
window.driven = new Driven();
// One more conversation, of the same peer.
window.more = () => Object.assign(new Driven(), { peer: window.driven.peer });
