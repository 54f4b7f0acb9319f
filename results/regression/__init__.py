"""Whether a method got worse since a reference run, and what such a comparison can find."""
