"""`python -m tests.attacks [WORDS]`: what strangers can make a peer dial, counted by nftables at
the victim, as a table. WORDS choose attacks by their names."""

import sys

from tests.attacks.lab import ATTACKS, Row, attacked, lab, table


def main(words: list[str]) -> None:
    """Play them one after the other."""
    rows = []
    with lab() as net:
        for name in ATTACKS:
            if words and not any(word in name for word in words):
                continue
            counts = [attacked(net, name, silent=silent) for silent in (False, True)]
            rows.append(Row(name, *counts))
            print(table(rows)[-1], file=sys.stderr, flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
