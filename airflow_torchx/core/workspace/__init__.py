"""Decisions about workspaces and their images."""
