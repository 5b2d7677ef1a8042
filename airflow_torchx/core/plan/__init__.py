"""Plans every container of an app from the app and its run options."""
