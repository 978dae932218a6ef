/** The states of a session and what moves it from one to the next: a table to check by eye, that of
 * docs/protocol.md §11. Pure. */

export type State =
  | "open" | "half-closed (local)" | "half-closed (remote)" | "closing" | "answering"
  | "acknowledged" | "closed" | "lost";
export type Input = "finish here" | "finish there" | "close here" | "close there" | "closed there" | "lose";

type Row = { readonly [I in Input]: State | null };

function row(
  finishHere: State, finishThere: State, closeHere: State, closeThere: State, closedThere: State | null,
  lose: State = "lost",
): Row {
  return {
    "finish here": finishHere, "finish there": finishThere, "close here": closeHere,
    "close there": closeThere, "closed there": closedThere, lose,
  };
}

/** null: a violation. */
export const TRANSITIONS: { readonly [S in State]: Row } = {
  "open": row("half-closed (local)", "half-closed (remote)", "closing", "answering", null),
  "half-closed (local)": row("half-closed (local)", "closing", "closing", "answering", null),
  "half-closed (remote)": row("closing", "half-closed (remote)", "closing", "answering", null),
  "closing": row("closing", "closing", "closing", "answering", "acknowledged"),
  "answering": row("answering", "answering", "answering", "answering", "closed"),
  "acknowledged": row("acknowledged", "acknowledged", "acknowledged", "closed", "acknowledged"),
  "closed": row("closed", "closed", "closed", "closed", "closed", "closed"),
  "lost": row("lost", "lost", "lost", "lost", "lost"),
};

/** Where this side may send messages. */
export function isWritable(state: State): boolean {
  return state === "open" || state === "half-closed (remote)";
}

/** Where nobody closes. */
export function isEstablished(state: State): boolean {
  return isWritable(state) || state === "half-closed (local)";
}

export function isOver(state: State): boolean {
  return state === "closed" || state === "lost";
}
