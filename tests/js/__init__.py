"""The package of js/ in a real browser, and with peers of this library."""
