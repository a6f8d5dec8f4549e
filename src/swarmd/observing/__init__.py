"""What operators see of the daemon: metrics, traces, what log lines are about, and its insides when something is wrong.

The daemon's parts tell an `Observer` what they do; those that count or trace are built by the daemon when they are
asked for. Nothing in here knows the host, the journal or the servicers.
"""
