"""What a user can call: the commands, each with its own options, and the targets that are measured."""
