"""The Engine protocol and the values that it takes and returns."""
