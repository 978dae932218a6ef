/** What a browser says of the network and of its page's life; nothing of it in Node. */

type Target = { addEventListener(type: string, listener: () => void): void; removeEventListener(type: string, listener: () => void): void };

/** Call `woken` when a network comes or goes, and when the page is thawed, shown, or back. Returns what
 * ends that. */
export function watchSigns(woken: () => void): () => void {
  const shown = () => {
    if (globalThis.document?.visibilityState === "visible") woken();
  };
  const signs: [Target | undefined, string, () => void][] = [
    [globalThis.window, "online", woken], [globalThis.window, "offline", woken],
    [globalThis.window, "pageshow", woken], [globalThis.document, "resume", woken],
    [globalThis.document, "visibilitychange", shown],
    [(globalThis.navigator as { connection?: Target } | undefined)?.connection, "change", woken],
  ];
  for (const [target, type, listener] of signs) target?.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of signs) target?.removeEventListener(type, listener);
  };
}
