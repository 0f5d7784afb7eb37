"""Counts its visitors in redis."""

import os

from flask import Flask
from redis import Redis

app = Flask(__name__)
cache = Redis(os.environ.get("REDIS_HOST", "redis"))


@app.get("/")
def hello() -> str:
    return f"I have been seen {cache.incr('hits')} times.\n"
