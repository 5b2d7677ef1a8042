"""Takes GPUs of a daemon for one app, and waits for them; the decisions are in `core.gpu`."""
