"""Which GPUs of a daemon are free, who waits for them, and who is next.

The truth is on the daemon's containers. A replica holds the GPUs in its label while it lives, so
nothing has to be released after a crash. Other containers are its markers. Three kinds never start:
a ticket for an app that waits, a claim for an app that is being launched, and the lock of the
client that makes a claim. A probe runs ``nvidia-smi`` to find the ids of the GPUs.
"""
