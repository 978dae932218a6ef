"""The relay: control connections, the broker of service requests, and planes.

It keeps who is where, and nothing of what peers say to one another. `relay serve` is in cli.py.
"""

from relay import namesake as namesake
