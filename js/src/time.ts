/** Time, and waiting for it. Seconds, by a clock that only grows. */

export function now(): number {
  return performance.now() / 1000;
}

/** A promise with what settles it. */
export class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });
}

/** Those who wait for something to change. */
export class Waiters {
  private next = new Deferred<void>();

  /** Settles at the next `wake`. */
  changed(): Promise<void> {
    return this.next.promise;
  }

  wake(): void {
    const { resolve } = this.next;
    this.next = new Deferred();
    resolve();
  }
}

/** Wait so long, or until what is given settles; never throws for the latter. */
export async function pause(seconds: number, ...or: readonly Promise<unknown>[]): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((done) => (timer = setTimeout(done, Math.min(seconds * 1000, 2 ** 31 - 1))));
  try {
    await Promise.race([over, ...or.map((one) => one.catch(() => undefined))]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a promise gives, or the signal's reason as soon as there is one. */
export async function unless<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) {
    promise.catch(() => undefined);
    throw signal.reason;
  }
  const aborted = new Deferred<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** What `work` gives; what `late` says where that takes longer, or the signal's reason. The work's own
 * signal ends it then. */
export async function within<T>(
  seconds: number, late: () => Error, signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(late()), seconds * 1000);
  const abort = () => ending.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  try {
    return await unless(ending.signal, work(ending.signal));
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    ending.abort();
  }
}
