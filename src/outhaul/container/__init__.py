"""Files in somebody else's storage: where exports are delivered to and imports read from.

Destinations.check(destination)   may exports be written there? asked when a task is created
Destinations.open(destination)    the same question again, then a Container to put files into
Destinations.probe(destination)   would it work? asked by people, step by step
describe(destination)             what of it may be shown
Sources.check(source)             may imports read it? asked when an import is created
Sources.open(source)              the same question again, then a Reading of its bytes
describe_source(source)           what of it may be shown
"""

from outhaul.container.destinations import Container, Destinations, describe
from outhaul.container.probe import Step
from outhaul.container.sources import Reading, Sources, describe_source

__all__ = [
    "Container",
    "Destinations",
    "Reading",
    "Sources",
    "Step",
    "describe",
    "describe_source",
]
