"""The rivals, one file a method, on impact's layer interface."""
