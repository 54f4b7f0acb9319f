"""Which tables and figures can be made, from which jobs, and what is published of them."""
