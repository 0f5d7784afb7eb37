"""More processes that answer DNS: each has a copy of the registry, and sockets on the same port.

The main process keeps what there is one of: sources, registry, registrations, HTTP. It starts the
workers as fresh processes (:mod:`.process`), hands them sockets that it bound and keeps, and tells
them what changes (:mod:`.mirror` to :mod:`.replica`). While a worker is not there, the main process
answers on its sockets (:mod:`.pool`). docs/decisions/ says why it is so.
"""
