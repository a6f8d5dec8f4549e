"""Swarms as the daemon hosts them: state, scheduler, gateway, watchers and autopilot put together.

Everything that a servicer needs, without a word of gRPC in it.
"""
