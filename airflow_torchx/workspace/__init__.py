"""Workspaces: source code added to a base image."""
