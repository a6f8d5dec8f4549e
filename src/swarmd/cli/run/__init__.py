"""`swarmd run`: a workflow file from beginning to end.

`command` has the options, `session` what is done, the others one thing each: the daemon of one's own, progress, what is
shown, what interrupts.
"""
