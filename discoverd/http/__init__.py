"""The HTTP side: API, metrics and health, on aiohttp."""
