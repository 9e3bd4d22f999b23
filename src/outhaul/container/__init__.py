"""Where exports are delivered: a container or bucket that its owner gave us credentials for, or a folder.

Destinations.check(destination)   may exports be written there? asked when a task is created
Destinations.open(destination)    the same question again, then a Container to put files into
Destinations.probe(destination)   would it work? asked by people, step by step
describe(destination)             what of it may be shown
"""

from outhaul.container.destinations import Container, Destinations, describe
from outhaul.container.probe import Step

__all__ = ["Container", "Destinations", "Step", "describe"]
