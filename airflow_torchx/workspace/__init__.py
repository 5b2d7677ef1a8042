"""Workspaces: folders of code that are laid over a base image."""
