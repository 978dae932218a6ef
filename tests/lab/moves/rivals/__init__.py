"""What an application could use instead, each as a small program of its own: nothing of ours is in
their connections. What each had to be helped with is in tests/lab/moves/rivals/catalog.py."""
