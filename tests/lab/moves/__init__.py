"""How long moves take: rows, modes, distances and losses as one table, ours and rivals'."""
