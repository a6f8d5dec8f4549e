"""What happens at ten and at a thousand times the size: a simulation of many daemons, with costs that were measured."""
