"""What a folder of results holds, as one page."""
