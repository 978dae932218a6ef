/** The browser's own WebSocket. */

export interface Socket {
  binaryType: string;
  readonly protocol: string;
  readonly bufferedAmount: number;
  onopen: (() => void) | null;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onclose: ((event: { readonly code: number; readonly reason: string }) => void) | null;
  onerror: (() => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
  /** In Node: where it comes from and leads to. */
  readonly ends?: { readonly here: string; readonly host: string; readonly port: number } | null;
}

export function openSocket(url: string, protocols: readonly string[]): Socket {
  return new WebSocket(url, [...protocols]) as unknown as Socket;
}
