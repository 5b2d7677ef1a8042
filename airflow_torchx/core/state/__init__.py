"""What state an app is in, and what that means for those who wait: pure."""
