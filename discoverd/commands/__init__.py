"""What the commands do that talk to a running server: they return data and lines, cli.py prints them."""
