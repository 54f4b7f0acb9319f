"""How a table is made and shown: its frame, its columns, and its document as files, terminal and HTML."""
