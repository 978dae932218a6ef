/** A real relay as a process, and a wire before it that can be cut. */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const PYTHON = process.env["PYTHON"] ?? fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
const LONG = 60_000;

/** Wait until something holds. */
export async function until<T>(what: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + LONG;
  for (;;) {
    const found = await what();
    if (found) return found as NonNullable<T>;
    if (Date.now() > end) throw new Error(`it has not come: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

export class Relay {
  private constructor(private readonly process: ChildProcess, private readonly folder: string, readonly port: number) {}

  static async start(...flags: string[]): Promise<Relay> {
    const folder = await mkdtemp(join(tmpdir(), "roam-relay-"));
    const ready = join(folder, "ready");
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PEER_|ROAM_RELAY_)/.test(name)));
    const child = spawn(
      PYTHON, ["-m", "relay", "serve", "--port", "0", "--state", "", "--ready-file", ready, "--log-level", "error", ...flags],
      { stdio: "inherit", env: environment },
    );
    const url = await until(() => readFile(ready, "utf8").catch(() => ""));
    return new Relay(child, folder, Number(new URL(url.split(/\s/)[0]!).port));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** End it: by a word, or without one. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill(signal);
      await once(this.process, "exit");
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A TCP proxy at a port of its own, to whichever relay it is told. */
export class Wire {
  private readonly ends = new Set<net.Socket>();
  isUp = true;

  private constructor(private readonly server: net.Server, public target: number) {}

  static async to(target: number): Promise<Wire> {
    const server = net.createServer({ allowHalfOpen: true });
    const wire = new Wire(server, target);
    server.on("connection", (near) => wire.join(near));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return wire;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as net.AddressInfo).port}`;
  }

  /** End all that goes over it. (Not by `resetAndDestroy`: behind an `end` it leaves Node 20 a handle
   * that never closes, and its exit turns for ever.) */
  cut(): void {
    for (const end of [...this.ends]) end.destroy();
  }

  /** Swallow all that is sent, and tell nobody: as a network that is gone. */
  silence(isSilent = true): void {
    this.isUp = !isSilent;
    for (const end of this.ends) {
      if (isSilent) end.pause();
      else end.resume();
    }
  }

  close(): void {
    this.server.close();
    this.cut();
  }

  private join(near: net.Socket): void {
    const far = net.connect(this.target, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]] as const) {
      this.ends.add(one);
      one.on("data", (data) => {
        if (!other.write(data)) one.pause();
      });
      one.on("drain", () => this.isUp && other.resume());
      one.on("end", () => other.end());
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.ends.delete(one);
        other.destroy();
      });
    }
  }
}
