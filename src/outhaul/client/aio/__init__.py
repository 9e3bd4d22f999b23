"""The client, asynchronous: written here by hand, and from here `python -m outhaul.client.generate` makes `sync`."""
