"""Tables → files in a container: pin, plan, write, deliver, prove."""
