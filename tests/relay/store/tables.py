"""The tables of a store for tests, in two versions."""

TABLES = ("CREATE TABLE rows (number INTEGER PRIMARY KEY)",)
LATER = (*TABLES, "ALTER TABLE rows ADD COLUMN note TEXT; UPDATE rows SET note = 'old'")
