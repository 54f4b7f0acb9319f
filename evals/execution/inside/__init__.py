"""What runs behind the isolation: the standard library and these files are all that is there."""
