"""How long moves take: rows, modes, distances and losses as cells of one table, ours and rivals'."""
