// A page that talks: one session with the room, and one with another page for each file.

import { Identity, Peer, RoamRelayError, Superseded } from "/roam-relay.js";

const by = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const decoder = new TextDecoder();
const LARGEST_FILE = 64 * 1024 * 1024, PIECE = 65_536;
const MOST_OFFERS = 8; // files that wait for an answer at once
const WINDOW = 1024 * 1024; // bytes that somebody may send before they are taken

function say(text, kind = "") {
  by("status").textContent = text;
  by("status").className = kind;
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// -- the room -----------------------------------------------------------------------------------------

let peer, session, name;
let people = new Set(); // the GUIDs of those who are in the room

async function comeIn() {
  const room = await (await fetch("/room.json")).json();
  const identity = await Identity.load(`chat ${query.get("as") ?? ""}`);
  if (identity.storageFailure) {
    by("key").textContent = `Your key lives as long as this page: ${identity.storageFailure}`;
    by("key").hidden = false;
  }
  say("looking for the relay");
  peer = await Peer.open({ relay: room.relay, identity, agent: "examples/web", session: { window: WINDOW } });
  follow();
  takeFiles();
  session = await peer.connect(room.guid, room.service, { wait: true, metadata: JSON.stringify({ name }) });
  showPath();
  by("join").hidden = true;
  by("write").hidden = by("files").hidden = false;
  by("text").focus();
  for await (const message of session) {
    const said = JSON.parse(decoder.decode(message));
    if (said.here) showPeople(said.here);
    else if (typeof said.say === "string") showMessage(said);
  }
  say("the room has closed", "bad");
}

async function follow() {  // how this page stands with its relay
  for await (const status of peer.statuses()) {
    if (status.state !== "over") continue;
    const isDoubled = status.error instanceof Superseded;
    say(isDoubled ? "this chat goes on in another tab" : status.error.message, "bad");
  }
}

async function showPath() {
  for await (const { path, reason } of session.paths()) {
    if (path) say(`connected, by the relay, under ${session.explain().lock}`, "good");
    else say(`no path: ${reason}. What you write is kept, and goes on by itself`, "bad");
    by("why").textContent = JSON.stringify(session.explain(), null, 1);
  }
}

function showMessage({ name: who, say: text, guid }) {
  const line = element("li", "", guid === peer.guid ? "own" : "");
  line.append(element("bdi", who), ": ", element("span", text));
  by("lines").append(line);
  while (by("lines").children.length > 500) by("lines").firstChild.remove();
  by("log").scrollTop = by("log").scrollHeight;
}

function showPeople(here) {
  people = new Set(here.map((one) => one.guid));
  by("people").replaceChildren(...here.map((one) => {
    const line = element("li", "", one.path ? "" : "gone");
    const notes = [one.guid === peer.guid ? "you" : "", one.page ? "" : "terminal", one.path ? "" : "no network"];
    line.append(element("bdi", one.name), notes.filter(Boolean).map((note) => ` (${note})`).join(""));
    return line;
  }));
  const chosen = by("to").value;
  by("to").replaceChildren(...here.filter((one) => one.page && one.guid !== peer.guid).map((one) => {
    const option = element("option", one.name);
    option.value = one.guid;
    return option;
  }));
  by("to").value = chosen || by("to").options[0]?.value || "";
}

by("join").addEventListener("submit", (event) => {
  event.preventDefault();
  name = by("name").value.trim();
  if (!name || peer) return;
  comeIn().catch((error) => {
    say(error instanceof RoamRelayError ? error.message : `${error}`, "bad");
    if (!session) peer = void peer?.close(); // Who says again that they come in tries again.
  });
});

by("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = by("text").value.trim();
  if (!text) return;
  by("text").value = "";
  session.send(JSON.stringify({ say: text })).catch((error) => say(error.message, "bad"));
});

// -- files --------------------------------------------------------------------------------------------

function transfer(text, most) {  // a line with a bar; returns what moves it, and what ends it
  const line = element("li", "");
  const bar = document.createElement("progress");
  const words = element("span", text);
  bar.max = Math.max(most, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", text);
  line.append(words, bar);
  by("transfers").append(line);
  return {
    line,
    at: (count) => { bar.value = count; },
    over: (what) => { words.textContent = `${text}: ${what}`; bar.remove(); },
  };
}

by("give").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [file] = by("file").files, to = by("to").value;
  if (!file || !to) return;
  if (file.size > LARGEST_FILE) {
    transfer(file.name, 1).over("larger than 64 MiB");
    return;
  }
  const shown = transfer(`${file.name} to ${by("to").selectedOptions[0].textContent}`, file.size);
  let giving;
  try {
    const metadata = JSON.stringify({ file: file.name.slice(0, 200), size: file.size, from: name });
    giving = await peer.connect(to, "file", { metadata });
    const answer = await giving.receive();
    if (!answer || decoder.decode(answer) !== "yes") throw new Error("not wanted");
    for (let at = 0; at < file.size; at += PIECE) {
      await giving.send(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
      shown.at(at);
    }
    await giving.close();
    shown.over("is there");
  } catch (error) {
    giving?.abort("it cannot be given"); // Also where the file cannot be read any more.
    shown.over(error.message);
  }
});

let offers = 0;

async function takeFiles() {
  const select = ({ remote }) => {
    if (!people.has(remote)) return "not in the room";
    return offers < MOST_OFFERS || "too many files wait for an answer";
  };
  for await (const taking of peer.listen("file", { select })) {
    take(taking).catch(() => {}).finally(() => taking.abort("not taken")); // Nothing, where it is over.
  }
}

async function take(taking) {
  if (offers >= MOST_OFFERS) return;
  let said = {};
  try { said = JSON.parse(decoder.decode(taking.metadata)) ?? {}; } catch { /* It says nothing of itself. */ }
  const { size = 0 } = said;
  const file = typeof said.file === "string" ? said.file.slice(0, 200) : "a file";
  const from = typeof said.from === "string" ? said.from.slice(0, 32) : taking.remote.slice(0, 8);
  if (!(Number.isInteger(size) && size >= 0 && size <= LARGEST_FILE)) return;
  const shown = transfer(`${from} offers ${file} (${Math.ceil(size / 1024)} KiB)`, size);
  const wanted = await ask(shown.line, taking);
  if (wanted === null) {
    shown.line.remove(); // It was taken back.
    return;
  }
  try {
    if (wanted !== "Take it") {
      shown.over("not taken");
      await taking.send("no");
      return await taking.close();
    }
    await taking.send("yes");
    const pieces = [];
    let count = 0;
    for await (const piece of taking) {
      pieces.push(piece);
      shown.at(count += piece.length);
      if (count > size) throw new Error("more than was said");
    }
    if (count !== size) throw new Error("it has ended before its end");
    shown.over("is here");
    const link = element("a", `Save ${file}`);
    link.href = URL.createObjectURL(new Blob(pieces));
    link.download = file;
    shown.line.append(link);
  } catch (error) {
    shown.over(error.message);
  }
}

async function ask(line, taking) {  // which button; null where the offer ends before
  offers += 1;
  const buttons = ["Take it", "No"].map((text) => element("button", text));
  line.append(...buttons);
  const pressed = buttons.map((button) => new Promise((done) => {
    button.addEventListener("click", () => done(button.textContent));
  }));
  try {
    return await Promise.race([...pressed, taking.closed().then(() => null, () => null)]);
  } finally {
    offers -= 1;
    for (const button of buttons) button.remove();
  }
}
