"""The daemon as an attacker meets it: another user of the machine, a stranger on the network, a caller who lies."""
