"""A chat for pages and terminals, served by a program that has a peer in it. docs/web.md."""
