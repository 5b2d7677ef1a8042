"""Which GPUs of a daemon are free, who waits for them, and who is next.

The truth is on the daemon's containers. A replica holds the GPUs in its label while it lives, so
nothing has to be released after a crash. Containers that never start stand for a place in the
queue (a ticket), for GPUs of an app that is being launched (a claim), and for the section in which
one client at a time makes a claim.
"""
