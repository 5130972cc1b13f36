"""Which experts will later layers want, and with what confidence."""
