"""One app on one daemon: launch, observe, wait, logs."""
