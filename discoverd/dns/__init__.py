"""Bytes to questions and outcomes to bytes, and the sockets that carry them."""
