"""discoverd and its peers side by side; bench/README.md says how to run this and how to read it."""
