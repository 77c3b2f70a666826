"""Which adapter knows a network, and networks by name."""
