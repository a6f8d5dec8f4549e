"""What makes a swarm outlive the daemon: events written down one by one, and snapshots of the whole now and then."""
