"""What is known of devices now, for the doors: read one by one or page by page, and tagged."""

from outhaul.devices.reader import Device, Devices, Tag, Token
from outhaul.devices.register import Register

__all__ = ["Device", "Devices", "Register", "Tag", "Token"]
